"""The same MDP over many copies at once, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from releq_gym.env import QuantizeNetEnv, refuse_frozen
from releq_gym.evaluators.base import evaluate_many
from releq_gym.interrupts import Uninterrupted
from releq_gym.ledger import Trace
from releq_gym.noise import first_repeats, splitmix64
from releq_gym.observation import Measured
from releq_gym.plain_numbers import is_whole
from releq_gym.prefixes import Prefixes, make_prefixes
from releq_gym.registry import UnknownNameError
from releq_gym.rewards import reward_many
from releq_gym.several_nets import is_family

Rows = slice | NDArray[np.intp]
"""Which environments; all of them are `EVERYONE`, which numpy serves without copying."""

EVERYONE = slice(None)

DENSE_VISITS = 2**26
"""Visit counts (environments times assignments) that are kept as one array."""

AUTORESET = {mode.value: mode for mode in AutoresetMode}


class QuantizeNetVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """`QuantizeNetEnv` over ``num_envs`` copies that share a problem and a ledger.

    Sub-environment ``i`` does, step by step, what a single environment with its seed does, but for
    the last digits of rewards, which numpy rounds otherwise for arrays than for numbers. Infos are
    arrays with Gymnasium's ``_key`` masks; ``bitwidths`` is ``[num_envs, layers]``. Under
    ``"SameStep"`` the observations and infos of episodes that ended are ``final_obs`` and
    ``final_info``, batched like all others (a Dict of arrays for the observation ``"full"``).

    Args:
        num_envs: How many copies.
        autoreset_mode: ``"SameStep"`` (no wasted rows), ``"NextStep"`` or ``"Disabled"``.
        **options: As of `QuantizeNetEnv`, but for ``render_mode``.

    Raises:
        ValueError: Also for ``evaluator="live"``, whose measurements take seconds each.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        **options: Any,
    ):
        if options.pop("render_mode", None) is not None:
            raise ValueError("The vector environment draws nothing; render a single environment.")
        if options.get("evaluator") == "live":
            raise ValueError(
                "evaluator='live' measures one assignment at a time; use "
                "gym.make_vec(..., vectorization_mode='sync')."
            )
        named = str(options.get("task") or options.get("net"))
        if isinstance(options.get("net"), list | tuple) or is_family(named):
            raise ValueError(
                "The vector environment walks over one net; for several use "
                "gym.make_vec(..., vectorization_mode='sync')."
            )
        if isinstance(autoreset_mode, str) and autoreset_mode not in AUTORESET:
            raise UnknownNameError("autoreset_mode", autoreset_mode, AUTORESET)
        if not is_whole(num_envs) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r} has to be a whole number, at least 1.")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.num_envs = num_envs

        single = _make_single(options)
        self.problem, self.ledger, self.observe = single.problem, single.ledger, single.observe
        self.reward_timing, self.evaluate = single.reward_timing, single.evaluate
        self.gamma, self.noise, self.on_masked = single.gamma, single.noise, single.on_masked
        self.task, self.feature_names = single.task, single.feature_names
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)

        problem = self.problem
        self._choices = np.array(problem.bitwidths, dtype=np.intp)
        self._traces: list[Trace] = []
        if self.ledger.log is not None:
            members = [single.member, *(self.ledger.join(self.task) for _ in range(1, num_envs))]
            self._traces = [Trace(self.ledger, member) for member in members]
        self._everyone = np.arange(num_envs)
        self._noise_keys = np.zeros(num_envs, dtype=np.uint64)
        self._seeded = np.zeros(num_envs, dtype=np.bool_)
        self._visits = _Visits(num_envs, problem.index.count, problem.evaluator.repeats)
        self._at: Any = None
        self._executed = np.zeros(num_envs, dtype=np.intp)
        self._evaluated = np.zeros(num_envs, dtype=np.bool_)
        self._diverged = np.zeros(num_envs, dtype=np.bool_)
        self._accuracy = np.zeros(num_envs)
        self._previous_rewards = np.zeros(num_envs)
        self._over = np.zeros(num_envs, dtype=np.bool_)
        self._interrupted = False

    @cached_property
    def _prefixes(self) -> Prefixes:
        """Made at the first reset, as in `QuantizeNetEnv`."""
        return make_prefixes(self.problem, self.observe)

    # The MDP

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Puts all environments, or those of a mask, back to the start.

        Args:
            seed: One for all (environment ``i`` gets ``seed + i``), or one each; None goes on.
            options: ``{"reset_mask": bool array [num_envs]}`` resets only those.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        if options:
            raise UnknownNameError("reset option", next(iter(options)), ["reset_mask"])
        rows = EVERYONE if mask is None else _rows(self._check_mask(mask))
        if not isinstance(rows, slice):
            if self._at is None:
                raise ResetNeeded("Reset all environments before the first reset_mask.")
            self._refuse_interrupted()
        self._interrupted = False
        self._seed(rows, seed)
        self._restart(rows)
        return self._outcome(rows)

    def step(
        self, actions: NDArray[Any] | Sequence[int]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One decision in every environment, ``actions`` being ``[num_envs]``."""
        if self._at is None:
            raise ResetNeeded("Call reset() before the first step().")
        self._refuse_interrupted()
        actions = self._check_actions(actions)
        rewards = np.zeros(self.num_envs)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        rows: Rows = EVERYONE
        finished = self._over.any()
        if finished:  # never under same-step autoreset
            if self.autoreset_mode == AutoresetMode.DISABLED:
                raise ResetNeeded("Some episodes are over; reset them by reset_mask.")
            rows = np.flatnonzero(~self._over)
        executed = self._executable(rows, actions[rows])
        if finished:
            self._restart(_rows(self._over))
        before = self._at
        self._interrupted = True  # until it is over
        self._decide(rows, executed)
        terminated = self._prefixes.complete(self._at)
        self._evaluated[:] = False
        revealed = None
        if self.evaluate == "every_step" or terminated.any():
            asking = rows if self.evaluate == "every_step" else _rows(terminated)
            try:
                revealed = self._measure(asking)
                answered = revealed.answered
                rewards[answered] = self._credit(answered, terminated[answered])
            except BaseException:  # as if the step had not been taken
                self._move(before)
                self._seeded[:] = False  # visits are counted: the next reset begins anew
                raise
            refused = self._everyone[asking][~revealed.granted]
            terminated[refused], truncated[refused] = False, True
        # Lest the log lacks what is counted.
        with Uninterrupted() if self._traces else nullcontext():
            self._over = terminated | truncated
            self._book(rows, actions, rewards, revealed)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._over.any():
            over = self._over
            final = self._outcome(_rows(over))
            self._restart(_rows(over))
            observations, infos = self._outcome(EVERYONE)
            for name, value in zip(("final_obs", "final_info"), final, strict=True):
                infos[name], infos[f"_{name}"] = value, over
        else:
            observations, infos = self._outcome(EVERYONE)
        self._interrupted = False
        return observations, rewards, terminated, truncated, infos

    def _refuse_interrupted(self) -> None:
        if self._interrupted:
            raise ResetNeeded("The last step failed while it measured; call reset() first.")

    def action_masks(self) -> NDArray[np.bool_]:
        """Which bitwidths each layer at hand may take, bool ``[num_envs, bitwidths]``."""
        if self._at is None:
            return np.ones((self.num_envs, len(self._choices)), dtype=np.bool_)
        return self._prefixes.allowed(self._at)

    def close_extras(self, **kwargs: Any) -> None:
        """Writes what the log still lacks."""
        with Uninterrupted():
            for trace in self._traces:
                trace.end(cut=True)

    # In call order

    def _seed(self, rows: Rows, seed: int | Sequence[int | None] | None) -> None:
        seeds: Sequence[int | None]
        if seed is None or isinstance(seed, int | np.integer):
            start = None if seed is None else int(seed)
            super().reset(seed=start)
            seeds = [None if start is None else start + i for i in range(self.num_envs)]
        else:
            seeds = [None if one is None else _whole(one) for one in seed]
            if len(seeds) != self.num_envs:
                raise ValueError(f"{self.num_envs} environments need as many seeds.")
        for row in self._everyone[rows].tolist():
            given = seeds[row]
            if given is not None or not self._seeded[row]:
                drawn = int(self.np_random.integers(2**62)) if given is None else given
                self._noise_keys[row] = splitmix64(drawn)
                self._seeded[row] = True
                self._visits.forget(row)
                given = drawn if self._is_noisy else given  # in the log
            if self._traces:
                trace = self._traces[row]
                trace.end(cut=True)
                trace.begin(given, self.problem.start)

    def _restart(self, rows: Rows) -> None:
        if isinstance(rows, slice):
            self._move(self._prefixes.start(self.num_envs))
        else:
            start = self._prefixes.start(len(self._everyone[rows]))
            self._move(self._prefixes.replaced(self._at, rows, start))
        self._executed[rows] = 0
        # A new array: the last one may have been handed out as a mask.
        self._over = self._over.copy()
        self._evaluated[rows] = self._diverged[rows] = self._over[rows] = False
        self._accuracy[rows] = self.problem.evaluator.full_precision_accuracy
        self._previous_rewards[rows] = 0.0

    def _decide(self, rows: Rows, actions: NDArray[np.intp]) -> None:
        after = self._prefixes.after(self._positions(rows), actions)
        if not isinstance(rows, slice):
            after = self._prefixes.replaced(self._at, rows, after)
        self._move(after)
        self._executed[rows] = self._choices.take(actions)

    def _move(self, positions: Any) -> None:
        self._at = positions
        self._bitwidths = self._prefixes.bitwidths(positions)
        self._economics = self._prefixes.economics(positions)

    def _positions(self, rows: Rows) -> Any:
        return self._at if isinstance(rows, slice) else self._prefixes.part(self._at, rows)

    def _executable(self, rows: Rows, actions: NDArray[np.intp]) -> NDArray[np.intp]:
        """The actions that are taken instead of those that are masked."""
        if not self.problem.has_masks:
            return actions
        executed = self._prefixes.executed(self._positions(rows), actions)
        if self.on_masked == "raise" and (executed != actions).any():
            raise ValueError(
                f"{int((executed != actions).sum())} actions would break the cost budget, or were "
                "not measured; action_masks() says which are allowed."
            )
        return executed

    def _granted(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of these environments the budget lets ask."""
        bitwidths = self._bitwidths[rows]
        if self.ledger.evaluation_budget is None:
            return np.ones(len(bitwidths), dtype=np.bool_)
        assignments = map(tuple, bitwidths.tolist())
        granted = self.ledger.affords_in_turn(self.problem, assignments)
        return np.array(granted, dtype=np.bool_)

    def _measure(self, asking: Rows) -> _Revealed:
        """Asks the evaluator for those of these environments that the budget lets ask."""
        granted = self._granted(asking)
        rows = asking if granted.all() else self._everyone[asking][granted]
        evaluator, bitwidths = self.problem.evaluator, self._bitwidths[rows]
        if not len(bitwidths):
            return _Revealed(asking, granted, rows, np.zeros(0), np.zeros(0, dtype=np.intp), 0.0)
        indices, repeats = None, np.zeros(len(bitwidths), dtype=np.intp)
        if evaluator.repeats > 1:
            indices = self._prefixes.index(self._positions(rows))
            sample = self.noise == "sample"
            repeats = self._next_repeats(rows, indices) if sample else repeats - 1
        answers = evaluate_many(evaluator, bitwidths, repeats, indices)
        own = np.array(answers.accuracy, dtype=np.float64)  # an evaluator may reuse its arrays
        if not (own.min() >= 0 and own.max() <= 1):
            wrong = int(np.flatnonzero(~((own >= 0) & (own <= 1)))[0])
            self.problem.refuse_accuracy(tuple(bitwidths[wrong].tolist()), own.item(wrong))
        self._accuracy[rows] = own
        self._diverged[rows] = answers.diverged
        self._evaluated[rows] = True
        milliseconds = float(answers.milliseconds.sum())
        return _Revealed(asking, granted, rows, own, repeats, milliseconds)

    def _book(
        self,
        rows: Rows,
        actions: NDArray[np.intp],
        rewards: NDArray[np.float64],
        revealed: _Revealed | None,
    ) -> None:
        """Charges and logs a step of these environments."""
        before = self.ledger.fresh
        if revealed is not None:
            bitwidths = self._bitwidths[revealed.answered]
            if len(bitwidths):
                self.ledger.charge_many(
                    self.problem,
                    bitwidths,
                    revealed.accuracies,
                    revealed.repeats,
                    revealed.milliseconds,
                )
            if self._traces:
                self._log_revealed(revealed, before)
        if not self._traces:
            return
        played = self._everyone[rows]
        columns = played, actions[played], rewards[played], self._bitwidths[played]
        for row, *taken in zip(*(column.tolist() for column in columns), strict=True):
            trace = self._traces[row]
            trace.step(*taken)
            if self._over[row]:
                trace.end(cut=False)
                if self.autoreset_mode != AutoresetMode.DISABLED:
                    trace.begin(None, self.problem.start)

    def _log_revealed(self, revealed: _Revealed, before: int) -> None:
        """Who was told what, or refused, after so many accuracies of the run."""
        asking, granted = self._everyone[revealed.asking].tolist(), revealed.granted
        steps = self._prefixes.step(self._at)[revealed.asking].tolist()
        numbers = (before + np.cumsum(granted)).tolist()
        answers = zip(revealed.repeats.tolist(), revealed.accuracies.tolist(), strict=True)
        for row, step, told, number in zip(asking, steps, granted, numbers, strict=True):
            if told:
                self._traces[row].reveal(step, *next(answers), number)
            else:
                self._traces[row].refuse(number)

    @property
    def _is_noisy(self) -> bool:
        """Whether seeds decide what is revealed."""
        return self.noise == "sample" and self.problem.evaluator.repeats > 1

    def _next_repeats(self, rows: Rows, indices: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Another repeat at each visit, as in `QuantizeNetEnv`."""
        repeats = self.problem.evaluator.repeats
        chosen = first_repeats(self._noise_keys[rows], indices, repeats)
        chosen += self._visits.add(self._everyone[rows], indices)
        # The remainder of what is less than twice the divisor.
        chosen -= repeats * (chosen >= repeats)
        return chosen

    def _credit(self, rows: Rows, terminated: NDArray[np.bool_]) -> NDArray[np.float64]:
        if self.reward_timing == "final":
            if terminated.all():
                return self._rewards(rows, True)
            rewards = np.zeros(len(terminated))
            if terminated.any():
                rewards[terminated] = self._rewards(self._everyone[rows][terminated], True)
            return rewards
        rewards = self._rewards(rows, terminated)
        if self.reward_timing == "every_step":
            return rewards
        increments = self.gamma * rewards - self._previous_rewards[rows]
        self._previous_rewards[rows] = rewards
        return increments

    def _rewards(self, rows: Rows, terminated: Any) -> NDArray[np.float64]:
        if isinstance(rows, slice):
            economics = self._economics
        else:
            economics = self._prefixes.economics(self._positions(rows))
        transition = self.problem.transition(
            self._bitwidths[rows], self._accuracy[rows], terminated, economics
        )
        rewards = reward_many(self.problem.reward, transition)
        if not np.isfinite(rewards).all():
            raise ValueError(
                f"The reward {self.task['reward']} returned a NaN or infinity, or no number; it "
                "must return a finite number."
            )
        return rewards

    def _outcome(self, rows: Rows) -> tuple[Any, dict[str, Any]]:
        """Observations and infos of all environments, the latter masked to those of ``rows``."""
        economics, full = self._economics, self.problem.evaluator.full_precision_accuracy
        measured = Measured(
            self._accuracy / full, 100.0 * (full - self._accuracy), self._evaluated.copy()
        )
        infos: dict[str, Any] = {
            "bitwidths": self._bitwidths.copy(),
            "executed_bitwidth": self._executed.copy(),
            "evaluated": measured.evaluated,
            "accuracy": self._accuracy.copy(),
            "relative_accuracy": measured.relative_accuracy,
            "loss_points": measured.loss_points,
            "diverged": self._diverged.copy(),
            "cost": economics.cost,
            "state_of_quantization": economics.state_of_quantization,
            "average_bitwidth": economics.average_bitwidth,
            "weighted_bitwidth": economics.weighted_bitwidth,
            **economics.figures,
        }
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[rows] = True
        infos |= {f"_{name}": mask for name in infos}
        return self._prefixes.observation(self._at, measured), infos

    def _check_actions(self, actions: Any) -> NDArray[np.intp]:
        checked = np.asarray(actions)
        count = len(self._choices)
        whole = checked.dtype.kind in "iu" and checked.shape == (self.num_envs,)
        if not whole or checked.min() < 0 or checked.max() >= count:
            held = f" from {checked.min()} to {checked.max()}" if whole else ""
            raise ValueError(
                f"actions must be {self.num_envs} integers from 0 to {count - 1}, indices into "
                f"the bitwidths {', '.join(map(str, self._choices))}; these are {checked.dtype} "
                f"of the shape {checked.shape}{held}."
            )
        return checked.astype(np.intp, copy=False)

    def _check_mask(self, mask: Any) -> NDArray[np.bool_]:
        checked = np.asarray(mask)
        if checked.dtype != np.bool_ or checked.shape != (self.num_envs,) or not checked.any():
            raise ValueError(
                f"reset_mask must be a bool array of shape ({self.num_envs},) that is not all "
                "False."
            )
        return checked


def _rows(mask: NDArray[np.bool_]) -> Rows:
    return EVERYONE if mask.all() else np.flatnonzero(mask)


class _Revealed(NamedTuple):
    """What a step has revealed.

    Attributes:
        asking: Environments that have asked.
        granted: Which of them the budget let ask, bool ``[asking]``.
        answered: Those.
        accuracies: What they were told, ``[answered]``.
        repeats: Of which repeat, likewise.
        milliseconds: Of all answers together.
    """

    asking: Rows
    granted: NDArray[np.bool_]
    answered: Rows
    accuracies: NDArray[np.float64]
    repeats: NDArray[np.intp]
    milliseconds: float


class _Visits:
    """How often each environment has seen each assignment, modulo the number of repeats."""

    def __init__(self, environments: int, assignments: int, repeats: int):
        self._shape = environments, assignments
        # Looking the next count up is faster than a remainder.
        self._next = np.roll(np.arange(repeats, dtype=np.min_scalar_type(repeats)), -1)
        self._dense: NDArray[Any] | None = None
        self._sparse: list[dict[int, int]] = [{} for _ in range(environments)]

    def add(self, rows: NDArray[np.intp], indices: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Counts one more each; returns the counts before."""
        environments, assignments = self._shape
        if self._dense is None and environments * assignments <= DENSE_VISITS:
            self._dense = np.zeros(environments * assignments, dtype=self._next.dtype)
        if self._dense is not None:
            cells = rows * assignments + indices.astype(np.intp)
            before = self._dense.take(cells).astype(np.intp)
            self._dense[cells] = self._next.take(before)
            return before
        counts: list[int] = []
        for row, index in zip(rows.tolist(), indices.tolist(), strict=True):
            counts.append(self._sparse[row].get(index, 0))
            self._sparse[row][index] = int(self._next[counts[-1]])
        return np.array(counts, dtype=np.intp)

    def forget(self, row: int) -> None:
        self._sparse[row] = {}
        if self._dense is not None:
            self._dense.reshape(self._shape)[row] = 0


def _whole(seed: Any) -> int:
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"The seed {seed!r} has to be a whole number, 0 or more, or None.")
    return int(seed)


def _make_single(options: dict[str, Any]) -> QuantizeNetEnv:
    """The environment that the copies are of."""
    try:
        return QuantizeNetEnv(**options)
    except UnknownNameError as error:
        if error.kind != "keyword":
            raise
        known = ["num_envs", "autoreset_mode", *error.choices]
        raise UnknownNameError("keyword", error.name, known, error.hint) from None


def make_frozen(
    frozen_id: str,
    settings: dict[str, Any],
    num_envs: int = 1,
    autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
    **options: Any,
) -> QuantizeNetVectorEnv:
    """The vector environment of a frozen id; see `releq_gym.env.make_frozen`."""
    refuse_frozen(frozen_id, settings, options)
    return QuantizeNetVectorEnv(num_envs, autoreset_mode, **settings, **options)
