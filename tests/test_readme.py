import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if "RecurrentPPO" in code]
    exec(compile(example.replace("2_000", "128"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "best seen: Answer(bitwidths=" in printed


def test_every_command_it_names_exists():
    from releq_gym.cli import _parser

    for line in re.findall(r"^releq (.+?)(?:\s+#.*)?$", README, re.M):
        _parser().parse_args(line.split())
