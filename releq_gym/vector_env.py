"""The same MDP over many copies at once, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from releq_gym.env import QuantizeNetEnv, refuse_frozen
from releq_gym.evaluators.base import evaluate_many
from releq_gym.ledger import Trace
from releq_gym.noise import first_repeats
from releq_gym.observation import Situation
from releq_gym.registry import UnknownNameError
from releq_gym.rewards import reward_many

DENSE_VISITS = 2**26
"""Visit counts (environments times assignments) that are kept as one array."""

AUTORESET = {mode.value: mode for mode in AutoresetMode}


class QuantizeNetVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """`QuantizeNetEnv` over ``num_envs`` copies that share a problem and a ledger.

    Sub-environment ``i`` does, step by step, what a single environment with its seed does. Infos
    are arrays with Gymnasium's ``_key`` masks; ``bitwidths`` is ``[num_envs, layers]``. Under
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
        if isinstance(autoreset_mode, str) and autoreset_mode not in AUTORESET:
            raise UnknownNameError("autoreset_mode", autoreset_mode, AUTORESET)
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r} has to be at least 1.")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.num_envs = num_envs

        single = QuantizeNetEnv(**options)
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
        # Rows of equal length: smaller groups repeat their layers.
        widest = max(map(len, problem.groups))
        self._layers = np.array([(g * widest)[:widest] for g in problem.groups], dtype=np.intp)
        self._traces: list[Trace] = []
        if self.ledger.log is not None:
            members = [single.member, *(self.ledger.join(self.task) for _ in range(1, num_envs))]
            self._traces = [Trace(self.ledger, member) for member in members]
        self._everyone = np.arange(num_envs)
        self._noise_seeds = np.zeros(num_envs, dtype=np.uint64)
        self._seeded = np.zeros(num_envs, dtype=np.bool_)
        self._visits = _Visits(num_envs, len(problem.evaluator.bitwidths) ** len(problem.layers))
        self._step = np.zeros(num_envs, dtype=np.intp)
        self._bitwidths = np.tile(np.array(problem.start, dtype=np.intp), (num_envs, 1))
        self._decided = np.tile(problem.at_start, (num_envs, 1))
        self._executed = np.zeros(num_envs, dtype=np.intp)
        self._decided_bits = np.zeros(num_envs, dtype=np.intp)
        self._evaluated = np.zeros(num_envs, dtype=np.bool_)
        self._diverged = np.zeros(num_envs, dtype=np.bool_)
        self._accuracy = np.zeros(num_envs)
        self._previous_rewards = np.zeros(num_envs)
        self._over = np.zeros(num_envs, dtype=np.bool_)
        self._economics = problem.economics(self._step, self._decided)
        self._begun = False

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
        rows = self._everyone if mask is None else np.flatnonzero(self._check_mask(mask))
        if not self._begun:
            if len(rows) < self.num_envs:
                raise ResetNeeded("Reset all environments before the first reset_mask.")
            self._begun = True
        self._seed(rows, seed)
        self._restart(rows)
        return self._observations(), self._infos(rows)

    def step(
        self, actions: NDArray[Any] | Sequence[int]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One decision in every environment, ``actions`` being ``[num_envs]``."""
        if not self._begun:
            raise ResetNeeded("Call reset() before the first step().")
        actions = self._check_actions(actions)
        rewards = np.zeros(self.num_envs)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        rows = self._everyone
        if self._over.any():  # never under same-step autoreset
            if self.autoreset_mode == AutoresetMode.DISABLED:
                raise ResetNeeded("Some episodes are over; reset them by reset_mask.")
            rows = np.flatnonzero(~self._over)
            self._restart(np.flatnonzero(self._over))
        self._decide(rows, actions[rows])
        terminated = self._step == len(self.problem.steps)
        self._evaluated[:] = False
        asking = rows if self.evaluate == "every_step" else np.flatnonzero(terminated)
        if asking.size:
            answered = self._reveal(asking)
            rewards[answered] = self._credit(answered, terminated[answered])
            if len(answered) < len(asking):
                refused = np.setdiff1d(asking, answered)
                terminated[refused], truncated[refused] = False, True
        self._over = terminated | truncated
        self._write(rows, actions, rewards)
        observations, infos = self._observations(), self._infos(self._everyone)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._over.any():
            over = self._over.copy()
            ended = np.flatnonzero(over)
            final = {"final_obs": observations, "final_info": self._infos(ended)}
            self._restart(ended)
            infos = self._infos(self._everyone)
            for name, value in final.items():
                infos[name], infos[f"_{name}"] = value, over
            observations = self._observations()
        return observations, rewards, terminated, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Which bitwidths each layer at hand may take, bool ``[num_envs, bitwidths]``."""
        last = len(self.problem.steps) - 1
        masks = self.problem.allowed(np.minimum(self._step, last), self._decided)
        masks[self._step > last] = True
        return masks

    def close_extras(self, **kwargs: Any) -> None:
        """Writes what the log still lacks."""
        for row, trace in enumerate(self._traces):
            trace.end(self._bitwidths[row].tolist(), cut=True)

    # In call order

    def _seed(self, rows: NDArray[np.intp], seed: int | Sequence[int | None] | None) -> None:
        seeds: Sequence[int | None]
        if seed is None or isinstance(seed, int | np.integer):
            start = None if seed is None else int(seed)
            super().reset(seed=start)
            seeds = [None if start is None else start + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ValueError(f"{self.num_envs} environments need as many seeds.")
        for row in rows.tolist():
            given = seeds[row]
            if given is not None or not self._seeded[row]:
                drawn = int(self.np_random.integers(2**62)) if given is None else given
                self._noise_seeds[row] = drawn % 2**64
                self._seeded[row] = True
                self._visits.forget(row)
            if self._traces:
                trace = self._traces[row]
                trace.end(self._bitwidths[row].tolist(), cut=True)
                trace.begin(given)

    def _restart(self, rows: NDArray[np.intp]) -> None:
        problem = self.problem
        self._step[rows] = 0
        self._bitwidths[rows] = problem.start
        self._decided[rows] = problem.at_start
        self._executed[rows] = self._decided_bits[rows] = 0
        self._evaluated[rows] = self._diverged[rows] = self._over[rows] = False
        self._accuracy[rows] = problem.evaluator.full_precision_accuracy
        self._previous_rewards[rows] = 0.0
        self._economics = problem.economics(self._step, self._decided)

    def _decide(self, rows: NDArray[np.intp], actions: NDArray[np.intp]) -> None:
        problem, step = self.problem, self._step[rows]
        if problem.has_budget:
            actions = self._allowed_actions(step, self._decided[rows], actions)
        bitwidths = self._choices[actions]
        self._bitwidths[rows[:, None], self._layers[step]] = bitwidths[:, None]
        self._decided[rows] = problem.decide(step, self._decided[rows], bitwidths)
        self._executed[rows] = bitwidths
        self._decided_bits[rows] += bitwidths
        self._step[rows] += 1
        self._economics = problem.economics(self._step, self._decided)

    def _allowed_actions(
        self, step: NDArray[np.intp], decided: NDArray[np.float64], actions: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Masked actions become the nearest allowed lower one, else the nearest allowed."""
        allowed = self.problem.allowed(step, decided)
        number = np.arange(allowed.shape[1])
        fine = allowed[np.arange(len(actions)), actions]
        if self.on_masked == "raise" and not fine.all():
            raise ValueError(
                f"{int((~fine).sum())} actions would break the cost budget; action_masks() says "
                "which are allowed."
            )
        lower = np.where(allowed & (number <= actions[:, None]), number, -1).max(axis=1)
        return np.where(lower >= 0, lower, allowed.argmax(axis=1))

    def _reveal(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Asks the evaluator for these environments; returns those that the budget answered."""
        problem, bitwidths = self.problem, self._bitwidths[rows]
        repeats = np.zeros(len(rows), dtype=np.intp)
        indices = None
        if problem.evaluator.repeats > 1:
            if self.noise == "mean":
                repeats -= 1
            else:
                indices = problem.index(bitwidths)
                first = first_repeats(self._noise_seeds[rows], indices, problem.evaluator.repeats)
                visits = self._visits.count(rows, indices)
                repeats = (first + visits) % problem.evaluator.repeats
        granted = self._afford(bitwidths)
        if not granted.all():
            if not granted.any():
                return rows[:0]
            rows, bitwidths, repeats = rows[granted], bitwidths[granted], repeats[granted]
            indices = None if indices is None else indices[granted]
        if indices is not None:
            self._visits.add(rows, indices)
        answers = evaluate_many(problem.evaluator, bitwidths, repeats)
        self.ledger.charge_many(
            problem, bitwidths, answers.accuracy, repeats, float(np.sum(answers.milliseconds))
        )
        self._accuracy[rows] = answers.accuracy
        self._diverged[rows] = answers.diverged
        self._evaluated[rows] = True
        if self._traces:
            accuracies = answers.accuracy.tolist()
            for row, repeat, accuracy in zip(rows, repeats.tolist(), accuracies, strict=True):
                self._traces[row].reveal(int(self._step[row]), repeat, accuracy)
        return rows

    def _afford(self, bitwidths: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of these the evaluation budget allows, first come, first served."""
        if self.ledger.evaluation_budget is None:
            return np.ones(len(bitwidths), dtype=np.bool_)
        assignments = map(tuple, bitwidths.tolist())
        return np.array(self.ledger.affords_in_turn(self.problem, assignments))

    def _credit(self, rows: NDArray[np.intp], terminated: NDArray[np.bool_]) -> NDArray[np.float64]:
        if self.reward_timing == "final":
            rewards = np.zeros(len(rows))
            if terminated.any():
                rewards[terminated] = self._rewards(rows[terminated], True)
            return rewards
        rewards = self._rewards(rows, terminated)
        if self.reward_timing == "every_step":
            return rewards
        increments = self.gamma * rewards - self._previous_rewards[rows]
        self._previous_rewards[rows] = rewards
        return increments

    def _rewards(self, rows: NDArray[np.intp], terminated: Any) -> NDArray[np.float64]:
        economics = self.problem.economics(self._step[rows], self._decided[rows])
        transition = self.problem.transition(
            self._bitwidths[rows], self._accuracy[rows], terminated, economics
        )
        rewards = reward_many(self.problem.reward, transition)
        if not np.isfinite(rewards).all():
            raise ValueError(f"The reward {self.task['reward']} returned a NaN or infinity.")
        return rewards

    def _write(
        self, rows: NDArray[np.intp], actions: NDArray[np.intp], rewards: NDArray[np.float64]
    ) -> None:
        for row in rows.tolist() if self._traces else ():
            trace = self._traces[row]
            trace.step(int(actions[row]), float(rewards[row]))
            if self._over[row]:
                trace.end(self._bitwidths[row].tolist(), cut=False)
                if self.autoreset_mode != AutoresetMode.DISABLED:
                    trace.begin(None)

    def _observations(self) -> Any:
        full = self.problem.evaluator.full_precision_accuracy
        return self.observe(
            Situation(
                step=self._step,
                bitwidths=self._bitwidths,
                economics=self._economics,
                last_bitwidth=self._executed,
                decided_bits=self._decided_bits,
                relative_accuracy=self._accuracy / full,
                loss_points=100.0 * (full - self._accuracy),
                evaluated=self._evaluated,
            )
        )

    def _infos(self, rows: NDArray[np.intp]) -> dict[str, Any]:
        """The infos of all environments, masked to those of ``rows``."""
        problem = self.problem
        full = problem.evaluator.full_precision_accuracy
        economics = self._economics
        infos: dict[str, Any] = {
            "bitwidths": self._bitwidths.copy(),
            "executed_bitwidth": self._executed.copy(),
            "evaluated": self._evaluated.copy(),
            "accuracy": self._accuracy.copy(),
            "relative_accuracy": self._accuracy / full,
            "loss_points": 100.0 * (full - self._accuracy),
            "diverged": self._diverged.copy(),
            "cost": economics.cost,
            "state_of_quantization": economics.state_of_quantization,
            "average_bitwidth": economics.average_bitwidth,
            "weighted_bitwidth": economics.weighted_bitwidth,
            **dict(zip(problem.figures, economics.figures, strict=True)),
        }
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[rows] = True
        return infos | {f"_{name}": mask for name in infos}

    def _check_actions(self, actions: Any) -> NDArray[np.intp]:
        checked = np.asarray(actions)
        count = len(self._choices)
        whole = np.issubdtype(checked.dtype, np.integer) and checked.shape == (self.num_envs,)
        if not whole or (checked < 0).any() or (checked >= count).any():
            raise ValueError(
                f"actions must be {self.num_envs} integers from 0 to {count - 1}, indices into "
                f"the bitwidths {', '.join(map(str, self._choices))}."
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


class _Visits:
    """How often each environment has seen each assignment."""

    def __init__(self, environments: int, assignments: int):
        self._dense: NDArray[np.uint32] | None = None
        self._sparse: list[dict[int, int]] = [{} for _ in range(environments)]
        self._shape = environments, assignments

    def count(self, rows: NDArray[np.intp], indices: NDArray[np.uint64]) -> NDArray[np.intp]:
        if self._is_dense():
            assert self._dense is not None
            return self._dense[rows, indices.astype(np.intp)].astype(np.intp)
        pairs = zip(rows.tolist(), indices.tolist(), strict=True)
        return np.array([self._sparse[row].get(index, 0) for row, index in pairs], dtype=np.intp)

    def add(self, rows: NDArray[np.intp], indices: NDArray[np.uint64]) -> None:
        if self._dense is not None:
            self._dense[rows, indices.astype(np.intp)] += 1
            return
        for row, index in zip(rows.tolist(), indices.tolist(), strict=True):
            self._sparse[row][index] = self._sparse[row].get(index, 0) + 1

    def forget(self, row: int) -> None:
        self._sparse[row] = {}
        if self._dense is not None:
            self._dense[row] = 0

    def _is_dense(self) -> bool:
        environments, assignments = self._shape
        if self._dense is None and environments * assignments <= DENSE_VISITS:
            self._dense = np.zeros(self._shape, dtype=np.uint32)
        return self._dense is not None


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
