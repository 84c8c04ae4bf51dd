"""What a run leaves in its folder besides its result, and how a ledger is restored from it."""

from __future__ import annotations

import json
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from agents.args import Args, write_settings
from releq_gym.ledger import Ledger
from releq_gym.problem import Problem

LOG_FILE = "log.jsonl"
AGENT_FILE = "agent.zip"
POLICY_FILE = "policy.npz"

PACKAGES = (
    *("releq_gym", "gymnasium", "numpy", "torch"),
    *("stable-baselines3", "sb3-contrib", "matplotlib", "safetensors"),
)


class Revealed(NamedTuple):
    """One accuracy of the action log.

    Attributes:
        bitwidths: One per layer, undecided layers as they start.
        accuracy: As revealed.
    """

    bitwidths: tuple[int, ...]
    accuracy: float


def begin_folder(args: Args[Any], command: str) -> Path:
    """Makes the folder of a new run and notes how it was begun.

    Raises:
        ValueError: Where the folder holds something already, or cannot be written.
    """
    name = re.sub(r"[^\w.-]+", "_", str(args.task or args.net or "digits"))
    folder = args.folder or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"The folder {folder} is not empty. Continue the run in it with --resume, or give "
                "--folder another one."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_settings(folder, args)
        (folder / "command.txt").write_text(command + "\n", encoding="utf-8")
        (folder / "versions.json").write_text(json.dumps(_versions(), indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"The folder {folder} cannot be written: {error}.") from None
    return folder


def read_log(log: Path, problem: Problem) -> list[Revealed]:
    """Everything that was revealed, in the order of the log.

    Args:
        log: Of a run on this problem.
        problem: Says which layers the steps decide.
    """
    revealed = []
    for record in _records(log):
        for step, _, accuracy in record.get("revealed", ()):
            bitwidths = list(problem.start)
            for layer in problem.steps[:step]:
                bitwidths[layer] = record["bitwidths"][layer]
            revealed.append(Revealed(tuple(bitwidths), accuracy))
    return revealed


def restore_ledger(ledger: Ledger, log: Path, problem: Problem) -> None:
    """Books what the log of an interrupted run holds, and lets the ledger go on writing there.

    Args:
        ledger: A new one without a log.
        log: Its incomplete last line, if any, is cut off.
        problem: Of that run.
    """
    if log.is_file():
        for bitwidths, accuracy in read_log(log, problem):
            ledger.charge(problem, bitwidths, accuracy, milliseconds=0.0)
        records = _records(log)
        ledger.environments = sum("problem" in record for record in records)
        lines = [json.dumps(record, separators=(",", ":")) + "\n" for record in records]
        partial = log.with_suffix(".partial")
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(log)
    ledger.log = log


def _records(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        del lines[-1]  # The process was killed while writing it.
    return [json.loads(line) for line in lines]


def _versions() -> dict[str, str]:
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "system": platform.platform(), **versions}
