import json

import pytest

from releq_gym.cli import main

TASK = "digits-digits-wrpn-short-w2to8"


def printed(capsys, *arguments, code=0):
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_nets_lists_layers_weights_and_macs(capsys):
    assert "lenet: mnist, input 1x28x28, 4 layers, 430,500 weights" in printed(capsys, "nets")
    assert "conv2" in printed(capsys, "nets", "lenet")


def test_tasks_lists_what_is_shipped(capsys):
    out = printed(capsys, "tasks")
    assert f"{TASK}: 1.0.0 (default of net 'digits')" in out
    assert f"releq/DigitsWRPN-v0: {TASK}/1.0.0" in out


def test_show_prints_the_card(capsys):
    card = json.loads(printed(capsys, "task", "show", TASK))
    assert card["quantizer"] == "wrpn" and card["completeness"] == "exhaustive"


def test_verify_checks_the_files(capsys):
    assert "hashes agree" in printed(capsys, "task", "verify", TASK, "--cells", "0")


def test_evaluate_measures_a_network_on_its_test_split(capsys):
    assert "% of 449 test images, full precision" in printed(capsys, "evaluate", "digits")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nets", "lenett"], "Did you mean 'lenet'"),
        (["evaluate", "vgg99"], "Unknown net 'vgg99'"),
        (["pretrain", "lenet", "--data", "nowhere"], "nowhere"),
        (["task", "show", "nothing"], "Unknown task 'nothing'"),
        (["task", "build", "digits", "--quantizer", "wrpm"], "Did you mean 'wrpn'"),
        (["task", "build", "digits", "--recipe", "shrt"], "short"),
        (
            ["task", "build", "digits", "--quantizer", "dorefa", "--recipe", "ptq"],
            "DoReFa rescales",
        ),
        (["task", "build", "digits", "--bitwidths", "0", "9"], "9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_user_errors_are_a_sentence(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELEQ_GYM_DATA", raising=False)
    error = printed(capsys, *arguments, code=2)
    assert sentence in error and "Traceback" not in error
    assert not list(tmp_path.rglob("*.sqlite*"))
