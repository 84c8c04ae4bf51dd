import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if "RecurrentPPO" in code]
    exec(compile(example.replace("2_000", "128"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "best seen: Answer(bitwidths=" in printed


def test_the_fifteen_lines_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELEQ_GYM_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if "releq_gym.search(" in code]
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert "report split" in capsys.readouterr().out
    assert (tmp_path / "runs" / "mine" / "quantized.safetensors").is_file()
    assert names["result"].tolerable and names["result"].chosen.cost < 0.9
    right = names["quantized"](names["test"][0]).argmax(1) == names["test"][1]
    assert float(right.double().mean()) > 0.9


def test_every_command_it_names_exists():
    from releq_gym.cli import _parser

    for line in re.findall(r"^releq (.+?)(?:\s+#.*)?$", README, re.M):
        _parser().parse_args(line.split())
