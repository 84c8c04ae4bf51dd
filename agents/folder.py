"""What a run leaves in its folder besides its result, and how a ledger is restored from it."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from agents.args import Args, read_settings, write_settings
from releq_gym.file_names import as_file_name
from releq_gym.ledger import Ledger
from releq_gym.plain_numbers import as_json
from releq_gym.problem import Problem
from releq_gym.replay import read_lines, read_records, read_revealed
from releq_gym.result import RESULT_FILE, Result, write_result
from releq_gym.whole_files import written_whole

AGENT_FILE = "agent.zip"
COMMAND_FILE = "command.txt"
POLICY_FILE = "policy.npz"

PROBLEM = ("evaluator", "net", "bitwidths", "start", "groups", "reward", "max_loss_points", "cost")
"""What a log tells of its problem, and all parts of a run have in common."""

PACKAGES = (
    *("releq_gym", "gymnasium", "numpy", "torch"),
    *("stable-baselines3", "sb3-contrib", "matplotlib", "safetensors"),
)


def begin_folder(args: Args[Any], command: str) -> Path:
    """Makes the folder of a new run and notes how it was begun.

    Raises:
        ValueError: Where the folder holds something already, or cannot be written.
    """
    name = as_file_name(str(args.task or args.net or "digits"))
    folder = args.folder or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--folder {folder} is a file; a run needs a folder, new or empty.")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"The folder {folder} is not empty. Continue the run in it with --resume, or give "
                "--folder another one."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_settings(folder, args)
        (folder / COMMAND_FILE).write_text(command + "\n", encoding="utf-8")
        (folder / "versions.json").write_text(json.dumps(_versions(), indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"The folder {folder} cannot be written: {error}.") from None
    return folder


def take_up_folder(
    args: Args[Any],
    command: str,
    budget_of: Callable[[Args[Any]], int],
    result: Result | None = None,
) -> Result | None:
    """Notes what a resumed run may have that it was not begun with: more budget, a report.

    Args:
        args: Of the resumed run.
        command: What was typed.
        budget_of: The budget that settings come to.
        result: What the run had found before, if anything.

    Returns:
        That; unfinished where the budget is higher now.

    Raises:
        ValueError: Where the budget is lower than before.
    """
    assert args.folder is not None
    earlier = read_settings(args.folder)
    granted = budget_of(args) - budget_of(earlier)
    if granted < 0:
        raise ValueError(
            f"--evaluation-budget {args.evaluation_budget} is less than the {budget_of(earlier)} "
            f"that the run in {args.folder} has already; a resumed run may have more."
        )
    if granted and result is not None and result.finished:
        result = dataclasses.replace(result, finished=False)
        write_result(args.folder, result)  # first: whatever stops this, the run then goes on
    stated = args.evaluation_budget if granted else earlier.evaluation_budget
    taken_up = dataclasses.replace(earlier, evaluation_budget=stated, report=args.report)
    if taken_up != earlier:
        write_settings(args.folder, taken_up)
        typed = args.folder / COMMAND_FILE
        if typed.is_file():
            with typed.open("a", encoding="utf-8") as file:
                file.write(command + "\n")
    return result


def seed_of_part(seed: int, environments: int = 0) -> int:
    """The agent's seed in a part of a run, from which its environments' follow.

    A resumed run draws anew, else it would ask for the very repeats that it has seen.

    Args:
        seed: Of the run.
        environments: That it had before this part.
    """
    return int(np.random.SeedSequence([seed, environments]).generate_state(1)[0])


def restore_ledger(
    ledger: Ledger, log: Path, problem: Problem, earlier: Result | None = None
) -> None:
    """Books what the log of an interrupted run holds; writes nothing.

    Args:
        ledger: A new one without a log.
        log: An incomplete last line, if any, does not count.
        problem: Of that run.
        earlier: What the run had found, if anything.

    Raises:
        ValueError: Where the log is damaged, of another problem, or lacks what ``earlier`` counts.
    """
    records = read_records(log) if log.is_file() else []
    _check_problem(records, log, problem)
    for one in read_revealed(log, problem) if records else ():
        ledger.charge(problem, one.bitwidths, one.accuracy, repeat=one.repeat)
        ledger.fresh = one.number  # more than is logged, where episodes were lost
    joined = [record for record in records if "actions" not in record]
    ledger.environments = len(joined)
    # A run that is killed loses the episodes at hand: what they revealed is logged at their end.
    every_step = any(
        (record.get("task") or {}).get("evaluate") == "every_step" for record in joined
    )
    most_lost = len(joined) * (len(problem.steps) if every_step else 1)
    if earlier is not None and earlier.evaluations - ledger.distinct > most_lost:
        raise ValueError(
            f"{log} tells of {ledger.distinct} different assignments, but {RESULT_FILE} beside it "
            f"of {earlier.evaluations}: much of the log is lost, and with it what was charged. "
            "Restore it, or begin a new run in another --folder."
        )


def go_on_logging(ledger: Ledger, log: Path) -> None:
    """Lets a ledger write to the log of its run, whose incomplete last line, if any, is cut off."""
    if log.is_file():
        with written_whole(log) as partial:
            partial.write_text("".join(read_lines(log)), encoding="utf-8")
    ledger.log = log


def _check_problem(records: Sequence[Mapping[str, Any]], log: Path, problem: Problem) -> None:
    here = json.loads(json.dumps(problem.describe(), default=as_json))
    for told in filter(None, (record.get("task") for record in records)):
        # Logs of old may lack one.
        for name in (one for one in PROBLEM if one in told):
            if told[name] != here[name]:
                raise ValueError(
                    f"{log} is of another run: its {name} is {told[name]!r}, here it is "
                    f"{here[name]!r}. Restore the run's own, or begin a new run in another "
                    "--folder."
                )


def _versions() -> dict[str, str]:
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "system": platform.platform(), **versions}
