"""What comes of one log, with what is claimed about it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from agents.pictures import draw_learning_curve
from benchmarks.validate.claims import Row, check_result, check_rows
from benchmarks.validate.digests import content_sha256
from benchmarks.validate.replay import Difference, Replayed, replay
from releq_gym.problem import Problem
from releq_gym.replay import read_content, read_lines, whole_lines
from releq_gym.result import RESULT_FILE, read_result
from releq_gym.tasks.score import ExactScorer, TableScorer, make_scorer
from releq_gym.whole_files import written_whole

Scorer = TableScorer | ExactScorer

SUFFIXES = (".jsonl", ".jsonl.gz")

SHOWN = 3
"""Of many answers, differences or runs, how many are shown."""

AGREES, DIFFERS, UNCHECKED = "agrees", "differs", "cannot be checked"


@dataclass(frozen=True)
class Verdict:
    """What comes of one log.

    Attributes:
        log: Its path.
        claims: How many results were compared with it.
        environments: That it describes.
        episodes: In it.
        fresh: Accuracies revealed.
        distinct: Different assignments among them.
        budget: ``{unit: limit}``; None where there is none.
        answers: A line about each.
        is_cut: Whether its last line is incomplete, and left out.
        differences: Everything that is told or claimed and is not so.
        unchecked: What could not be found out, a sentence each.
    """

    log: Path
    claims: int = 0
    environments: int = 0
    episodes: int = 0
    fresh: int = 0
    distinct: int = 0
    budget: dict[str, int] | None = None
    answers: tuple[str, ...] = ()
    is_cut: bool = False
    differences: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """Whether it agrees; a difference counts for more than what cannot be checked."""
        return DIFFERS if self.differences else UNCHECKED if self.unchecked else AGREES


def find_logs(paths: Sequence[Path]) -> list[Path]:
    """Logs among files and folders, those of run folders included.

    Raises:
        ValueError: Where there is none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} does not exist.")
        inside = sorted(path.rglob("*.jsonl*")) if path.is_dir() else [path]
        logs = [one for one in inside if one.is_file() and one.name.endswith(SUFFIXES)]
        if not logs:
            raise ValueError(f"{path} is no action log (.jsonl, .jsonl.gz), and holds none.")
        found += logs
    return list(dict.fromkeys(found))


def validate(
    log: Path,
    rows: Sequence[Row] | None = None,
    folders: tuple[str, ...] = (),
    sha256: str | None = None,
) -> Verdict:
    """Replays a log and compares whatever is claimed about it.

    Args:
        log: As `find_logs` finds them; a ``result.json`` beside a ``log.jsonl`` is a claim, too.
        rows: Claims about it; None where nobody made any.
        folders: Where task folders lie that are not shipped.
        sha256: That it should have; None where nobody tells.
    """
    try:
        return _validated(log, rows, folders, sha256)
    except Exception as error:
        # Whoever wrote the log or the claims: no other log is to be lost by what nobody foresaw.
        return Verdict(log, unchecked=(f"It cannot be checked: {error!r}",))


def _validated(
    log: Path, rows: Sequence[Row] | None, folders: tuple[str, ...], sha256: str | None
) -> Verdict:
    try:
        content = read_content(log)
        found_sha256 = None if sha256 is None else content_sha256(content)
        replayed = replay(whole_lines(content), folders)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        return Verdict(log, unchecked=(f"It cannot be read: {error}",))
    differences = [_at(found) for found in replayed.differences]
    if found_sha256 != sha256:
        differences.append(f"It is another log: its sha256 is {found_sha256}, {sha256} was told.")
    unchecked = list(replayed.unchecked)
    claims = len(rows or ())
    try:
        if rows:
            differences += check_rows(rows, replayed)
        elif rows is not None:
            unchecked.append("No row of the claims is about it.")
        if log.name.startswith("log.") and (log.parent / RESULT_FILE).is_file():
            claims += 1
            found = check_result(read_result(log.parent), replayed)
            differences += [f"{RESULT_FILE}: {text}" for text in found]
    except ValueError as error:
        unchecked.append(f"What is claimed cannot be read: {error}")
    ledger = replayed.ledger
    return Verdict(
        log=log,
        claims=claims,
        environments=replayed.environments,
        episodes=replayed.episodes,
        fresh=ledger.fresh,
        distinct=ledger.distinct,
        budget=replayed.budget,
        answers=tuple(_answers(replayed)),
        is_cut=not content.endswith(b"\n"),
        differences=tuple(differences),
        unchecked=tuple(unchecked),
    )


def draw(log: Path, path: Path, folders: tuple[str, ...] = ()) -> None:
    """Draws what a log has measured, and what its answer was by then.

    Args:
        log: Of one problem; of others the first is drawn.
        path: PNG to write.
        folders: As for `validate`.

    Raises:
        ValueError: Where the log cannot be read, or names nothing that can be rebuilt.
    """
    replayed = replay(read_lines(log), folders)
    if not replayed.problems:
        why = " ".join(replayed.unchecked)
        raise ValueError(f"{log} cannot be drawn, since it cannot be replayed: {why}")
    problem = next(iter(replayed.problems.values()))
    with written_whole(path) as partial:
        draw_learning_curve(replayed.revealed(problem), problem).savefig(partial, format="png")


def _at(difference: Difference) -> str:
    return f"line {difference.line}: {difference.text}"


def _answers(replayed: Replayed) -> Iterator[str]:
    several = len(replayed.problems) > 1
    for problem in list(replayed.problems.values())[:SHOWN]:
        if (answer := replayed.ledger.best(problem)) is None:
            continue
        name = problem.evaluator.name
        about = f"{name}: " if several else ""
        regret = "regret undefined"
        if (scorer := _scorer(problem)) is not None:
            regret = f"regret {scorer.search_regret(answer.bitwidths):.6f} on search data"
            if scorer.has_report:
                regret += f", {scorer.regret(answer.bitwidths):.6f} on report data"
        bitwidths = " ".join(map(str, answer.bitwidths))
        if (repeats := problem.evaluator.repeats) > 1:
            bitwidths += f" (known by {answer.repeats} of {repeats} repeats)"
        yield f"{about}answer {bitwidths}, objective {answer.objective:.6f}, {regret}"
    if len(replayed.problems) > SHOWN:
        yield f"and answers to {len(replayed.problems) - SHOWN} more problems"


@lru_cache
def _scorer(problem: Problem) -> Scorer | None:
    try:
        return make_scorer(problem)
    except ValueError:
        return None
