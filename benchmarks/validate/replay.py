"""Plays the actions of a log again, and says where the log tells something else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeGuard

from benchmarks.validate.numbering import check_numbers
from benchmarks.validate.played import Asked, ReplayedEpisode, as_told
from benchmarks.validate.rebuild import Rebuilt, rebuild
from benchmarks.validate.records import Episode, Joined, is_numbered, numbered, parse
from benchmarks.validate.walk import Walk
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger
from releq_gym.noise import first_repeat, splitmix64
from releq_gym.problem import Problem
from releq_gym.replay import Revealed

BLOCK = 2_000
"""Lines that are replayed together."""


class Difference(NamedTuple):
    """Something that a log tells and its actions do not give.

    Attributes:
        line: Number in the log, from 1.
        text: What.
    """

    line: int
    text: str


@dataclass
class Replayed:
    """What the actions of a log give.

    Attributes:
        environments: How many the log has.
        episodes: How many it has, those that were cut included.
        budget: For different assignments or accuracies, ``{unit: limit}``; the last one.
        raised: Lines from which on there was a higher budget than before, and that.
        seed: With which the first environment that tells of an episode begins; None where it has
            none.
        ledger: What all of it was charged to.
        asked: Everything, in order, as replayed; as told where that cannot be.
        problems: Different ones, as far as they were rebuilt, by their descriptions.
        differences: In the order of the log.
        unchecked: What this cannot vouch for, a sentence each.
    """

    environments: int
    episodes: int
    budget: dict[str, int] | None
    seed: int | None
    ledger: Ledger
    raised: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    problems: dict[str, Problem] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def revealed(self, problem: Problem) -> list[Revealed]:
        """What was revealed about one problem, in order."""
        name = problem.evaluator.name
        return [
            one.revealed
            for one in self.asked
            if not one.refused and one.problem.evaluator.name == name
        ]


@dataclass
class Noise:
    """What decides which repeat an environment sees.

    Attributes:
        key: `splitmix64` of its seed.
        visits: By assignment.
    """

    key: int | None = None
    visits: dict[int, int] = field(default_factory=dict)

    @property
    def is_guessed(self) -> bool:
        """Whether repeats were seen that no seed decides."""
        return self.key is None and bool(self.visits)

    def start_over(self, seed: int) -> None:
        """As `QuantizeNetEnv.reset`."""
        self.key, self.visits = splitmix64(seed), {}

    def next_repeat(self, index: int, repeats: int) -> int:
        """As `QuantizeNetEnv`; without a seed whatever comes first."""
        visit = self.visits.get(index, 0)
        self.visits[index] = visit + 1
        start = 0 if self.key is None else first_repeat(self.key, index, repeats)
        return (start + visit) % repeats


@dataclass
class Member:
    """An environment of the log.

    Attributes:
        task: Its description.
        built: From that; None where it cannot be.
        problem: Of that; else no more than what a `Ledger` asks for.
        may_copy: Whether the next episode may have been begun by another environment.
        noise: Where it stands.
    """

    task: dict[str, Any]
    built: Rebuilt | None
    problem: Any
    may_copy: bool = False
    noise: Noise = field(default_factory=Noise)


def replay(lines: Sequence[str], folders: tuple[str, ...] = ()) -> Replayed:
    """Plays a log.

    Args:
        lines: Of the log.
        folders: Where task folders lie that are not shipped.

    Raises:
        ValueError: Where it is none.
    """
    records = parse(lines)
    told_in_order = is_numbered(records)
    if not told_in_order:
        records = numbered(records)
    joined = [one for one in records if isinstance(one, Joined)]
    episodes = [one for one in records if isinstance(one, Episode)]
    replayed = _prepare(joined, episodes)
    members: dict[int, Member] = {}
    for start in range(0, len(records), BLOCK):
        block = records[start : start + BLOCK]
        for one in block:
            if isinstance(one, Joined):
                members[one.member] = _begin(one, members, replayed, folders)
        _play(block, members, replayed)
    if told_in_order:
        replayed.differences += [Difference(*found) for found in check_numbers(episodes)]
    else:
        replayed.unchecked.append(
            "Its accuracies have no numbers: whether some were taken out of it cannot be seen."
        )
    _charge(replayed, with_budget=told_in_order and joined[0].budget is not False)
    replayed.differences.sort(key=lambda found: found.line)
    return replayed


def _prepare(joined: Sequence[Joined], episodes: Sequence[Episode]) -> Replayed:
    """Nothing replayed yet; one budget for all environments, unless later ones have more."""
    if not joined:
        raise ValueError("It describes no environment.")
    budget = joined[0].budget  # the first one is no copy
    known = budget if isinstance(budget, dict) else None
    seed = min(episodes, key=lambda one: one.member).seed if episodes else None
    replayed = Replayed(len(joined), len(episodes), known, seed, Ledger(known))
    for one in joined:
        if one.task is None or one.budget == budget:
            continue
        if _is_higher(one.budget, budget):
            budget = replayed.budget = one.budget
            replayed.raised.append((one.line, budget))
        else:
            text = f"an evaluation budget of {one.budget}, earlier {budget}"
            replayed.differences.append(Difference(one.line, text))
    if budget is False:
        replayed.unchecked.append("It does not tell its evaluation budget, which is not checked.")
    return replayed


def _is_higher(budget: object, earlier: object) -> TypeGuard[dict[str, int]]:
    """Whether a run that was resumed has been granted more."""
    return (
        isinstance(budget, dict)
        and isinstance(earlier, dict)
        and budget.keys() == earlier.keys()
        and all(budget[unit] > earlier[unit] for unit in budget)
    )


def _begin(
    joined: Joined, members: dict[int, Member], replayed: Replayed, folders: tuple[str, ...]
) -> Member:
    if joined.task is None:
        assert joined.continues is not None  # as `parse` has checked
        original = members[joined.continues]
        return Member(original.task, original.built, original.problem, may_copy=True)
    try:
        built = rebuild(json.dumps(joined.task), folders)
    except ValueError as error:
        text = (
            f"{error} Charges and budget are checked, from the bitwidths that the log tells; "
            "accuracies, rewards, the answer and its regret are not."
        )
        if text not in replayed.unchecked:
            replayed.unchecked.append(text)
        name = joined.task.get("evaluator")
        return Member(joined.task, None, SimpleNamespace(evaluator=SimpleNamespace(name=name)))
    problem = built.env.problem
    replayed.problems.setdefault(json.dumps(problem.describe()), problem)
    replayed.differences += [Difference(joined.line, text) for text in built.contradictions]
    return Member(joined.task, built, problem)


def _play(
    block: Sequence[Joined | Episode], members: dict[int, Member], replayed: Replayed
) -> None:
    """Replays some lines, and compares them."""
    played = _walk(block, members, replayed)
    for one in block:
        member = members[one.member]
        if isinstance(one, Episode):
            if one.copied and not member.may_copy:
                replayed.differences.append(Difference(one.line, "a copy, of no environment"))
            member.may_copy = False
            if one.line in played:
                _ask(played[one.line], member.noise)
                if member.noise.is_guessed:
                    replayed.differences.append(Difference(one.line, "noise without a seed"))
        elif one.continues is not None:
            member.noise = deepcopy(members[one.continues].noise)
    for one in block:
        if one.line in played:
            episode = played[one.line]
            replayed.asked += episode.asked()
            replayed.differences += [Difference(one.line, text) for text in episode.differences()]
        elif isinstance(one, Episode) and members[one.member].built is None:
            replayed.asked += as_told(one, members[one.member].problem, members[one.member].task)


def _walk(
    block: Sequence[Joined | Episode], members: dict[int, Member], replayed: Replayed
) -> dict[int, ReplayedEpisode]:
    """The episodes that can be replayed by line, those of one environment in one walk."""
    alike: dict[int, tuple[QuantizeNetEnv, list[Episode]]] = {}
    for one in block:
        if not isinstance(one, Episode) or (built := members[one.member].built) is None:
            continue
        if text := _impossible(one, built.env):
            replayed.differences.append(Difference(one.line, text))
        else:
            alike.setdefault(id(built), (built.env, []))[1].append(one)
    played = {}
    for env, episodes in alike.values():
        walk = Walk(env, [one.actions for one in episodes])
        for row, one in enumerate(episodes):
            played[one.line] = ReplayedEpisode(one, env, walk, row)
    return played


def _impossible(episode: Episode, env: QuantizeNetEnv) -> str | None:
    """Why these actions cannot have been taken."""
    steps, choices = len(env.problem.steps), len(env.problem.bitwidths)
    if len(episode.actions) > steps:
        return f"{len(episode.actions)} actions, where an episode has {steps}"
    if not all(0 <= action < choices for action in episode.actions):
        return f"an action that is none of 0 to {choices - 1}"
    return None


def _ask(played: ReplayedEpisode, noise: Noise) -> None:
    """Notes which repeats the episode saw."""
    env, walk, row = played.env, played.walk, played.row
    repeats = env.problem.evaluator.repeats
    if played.episode.seed is not None:
        noise.start_over(played.episode.seed)
    for step in played.steps_asked:
        repeat = 0
        if repeats > 1:
            index = int(walk.indices[row, step - 1])
            repeat = noise.next_repeat(index, repeats) if env.noise == "sample" else -1
        walk.repeats[row, step - 1] = repeat


def _charge(replayed: Replayed, with_budget: bool) -> None:
    """Charges everything in the order of the run, and checks the budget where it is told."""
    replayed.asked.sort(key=lambda one: (one.revealed.number, one.refused))
    ledger, raised = replayed.ledger, replayed.raised[::-1]
    for line, problem, one, refused in replayed.asked:
        while raised and raised[-1][0] < line:
            _, ledger.evaluation_budget = raised.pop()
        if with_budget and refused == ledger.affords(problem, one.bitwidths):
            spent = f"the budget of {ledger.evaluation_budget} after {ledger.fresh} accuracies"
            text = f"refused, within {spent}" if refused else f"revealed, beyond {spent}"
            replayed.differences.append(Difference(line, text))
        if not refused:
            ledger.charge(problem, one.bitwidths, one.accuracy, repeat=one.repeat)
