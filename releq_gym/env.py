"""The environment: an agent walks over the layers of a network and picks a bitwidth for each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from releq_gym.costs import CostModel, make_cost
from releq_gym.evaluators import Evaluation, Evaluator
from releq_gym.evaluators.resolve import make_evaluator
from releq_gym.interrupts import Uninterrupted
from releq_gym.ledger import Ledger, Trace
from releq_gym.noise import first_repeat, splitmix64
from releq_gym.observation import OBSERVATIONS, Measured
from releq_gym.plain_numbers import is_real
from releq_gym.prefixes import Prefixes, make_prefixes
from releq_gym.problem import Problem
from releq_gym.registry import UnknownNameError, named_arguments
from releq_gym.rewards import Reward, make_reward
from releq_gym.transition import Transition

TIMINGS = ("final", "every_step", "telescoped")
EVALUATE = ("final", "every_step")

KEYWORD_HINTS = {
    "max_loss_points": "It is the reward's: reward_kwargs={'max_loss_points': 1.0}.",
    "budget": "evaluation_budget counts assignments, cost_budget limits what one may cost.",
}
"""What somebody may have meant by keywords that there are not."""
NOISE = ("sample", "mean")
ON_MASKED = ("nearest", "raise")


class QuantizeNetEnv(gym.Env[Any, int]):
    """Bitwidths for the layers of a pretrained network.

    ## Description

    A pretrained network is to run with few bits per weight. One episode is one walk over its
    quantized layers, first to last; at each the agent picks a bitwidth (with `groups`, one for
    several layers). An *evaluator* answers what accuracy an assignment gives (measured live,
    looked up in a table, or predicted), a *cost model* what it costs, and a *reward* turns both
    into a number. This is the system of ReLeQ (Elthakeb et al., arXiv 1811.01704).

    >>> import gymnasium as gym
    >>> import releq_gym
    >>> env = gym.make("releq/QuantizeNet-v0", net="synthetic")
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    >>> env.unwrapped.task["net"]
    'synthetic'

    ## Action Space

    `Discrete(len(bitwidths))`: index 0 is the fewest bits. `action_masks()` (through wrappers
    `env.get_wrapper_attr("action_masks")()`) says which of them the cost budget, and a task that
    lacks assignments, leave for the layer at hand. A masked action is executed as the nearest
    allowed lower bitwidth, else the nearest allowed one, and `info["executed_bitwidth"]` says so;
    `on_masked="raise"` refuses it.

    ## Observation Space

    float32 `Box(0.0, 1.0)`, of the same size for every network:

    * `"layer"` (default): the layer to decide (position, kind, dimensions, weights, MACs, weight
      standard deviation), its share of the cost, its signal-to-quantization-noise ratio at 1 to
      8 bits, and where the episode stands (bitwidths so far, state of quantization, relative
      accuracy and its loss on a log scale, cost now and least cost reachable, budget left).
    * `"paper"`: ReLeQ's own (index, dimensions, standard deviation, bitwidth, the two states).
    * `"full"`: a Dict with every layer's row, the bitwidths so far and a mask.

    `releq_gym.observation` lists every entry with its meaning; `env.unwrapped.feature_names`
    names them in order.

    ## Rewards

    `"accuracy_floor"` (default): `1 - cost` where the loss is tolerable, else minus the points
    beyond, over 100. Also `"releq"` (the paper's), `"releq_code"`, `"ratio"`, `"difference"`,
    `"lagrangian"`, or any callable on a `releq_gym.Transition`. `reward_timing` says when:
    `"final"` after the last layer; `"every_step"` after each, undecided layers at the maximum
    bitwidth; `"telescoped"` the increment `gamma * R_t - R_(t-1)`, `R_0 = 0`, whose sum (gamma
    1) is the final reward. The last two measure at every step.

    ## Starting State

    Every layer at the maximum bitwidth, fixed layers at theirs. Nothing is measured or charged.

    ## Episode End

    `terminated` after the last layer. `truncated` at the first evaluation that the
    `evaluation_budget` no longer allows, with reward 0 and nothing revealed.

    ## Information

    The same keys at every step, determined by the seed: `bitwidths` (one per layer),
    `executed_bitwidth` (of this step; 0 at reset), `evaluated` (whether this step measured),
    `accuracy`, `relative_accuracy`, `loss_points` (last measured in this episode; full precision
    before the first measurement), `diverged`, `cost`, `state_of_quantization`,
    `average_bitwidth`, `weighted_bitwidth`, and the cost model's physical figures by name.

    ## Arguments

    | name | default | meaning |
    |---|---|---|
    | `net` | `None` | a network by name, `"package.module:factory"`, or a module; None is the task's, else `"digits"`; in `gym.make` also a list, one of which is drawn for each episode (`releq_gym.several_nets`) |
    | `task` | `None` | a shipped task by name (`NAME` or `NAME/VERSION`), or a task folder; None is the net's default |
    | `evaluator` | `"auto"` | `"auto"` takes the task; `"live"` quantizes and measures; or an evaluator object |
    | `quantizer` | `None` | a quantizer by name; None is the task's, live `"wrpn"` |
    | `recipe` | `None` | `"ptq"`, `"short"` or `"long"`; None is the task's, live `"short"` where the net states that, else `"ptq"` |
    | `bitwidths` | `None` | the choice per layer, any subset of the evaluator's |
    | `fixed_bitwidths` | `None` | `{layer name: bitwidth}` of layers that are not chosen |
    | `groups` | `None` | `[[layer name, ...], ...]` of layers that share one bitwidth, decided in one step at the place of the first; a layer not named is on its own (`releq_gym.choices.group_by_prefix` proposes some) |
    | `activation_bitwidth` | `None` | 32 or 8; None is the task's, live 32 |
    | `data` | `None` | where a live evaluator finds its images |
    | `weights` | `None` | checkpoint of a live evaluator (safetensors) |
    | `evaluator_kwargs` | `None` | further arguments of `releq_gym.evaluators.live.LiveEvaluator` |
    | `observation` | `"layer"` | `"layer"`, `"paper"` or `"full"` |
    | `reward` | `"accuracy_floor"` | a reward by name, or a callable on a `Transition` |
    | `reward_kwargs` | `None` | parameters of a named reward |
    | `reward_timing` | `"final"` | `"final"`, `"every_step"` or `"telescoped"` |
    | `gamma` | `1.0` | discount that the telescoped reward is made for |
    | `evaluate` | `None` | `"final"` or `"every_step"`: when accuracy is measured; None follows `reward_timing` |
    | `cost` | `"quantization_state"` | a cost model by name, or a callable on (layers, bitwidths) |
    | `cost_kwargs` | `None` | parameters of a named cost model, or fields of a dataclass of your own |
    | `cost_budget` | `None` | `{figure: limit}`, never exceeded |
    | `evaluation_budget` | `None` | distinct assignments that may be measured, or `{"fresh": n}`; of this environment alone, unless a `ledger` is shared |
    | `noise` | `"sample"` | `"sample"` a repeat, another at each visit, or their `"mean"` |
    | `on_masked` | `"nearest"` | what a masked action does: `"nearest"` or `"raise"` |
    | `ledger` | `None` | a `releq_gym.Ledger` to share between environments of one process |
    | `log` | `None` | new file for the JSONL action log; not together with `ledger` |
    | `render_mode` | `None` | `"ansi"` or `"rgb_array"`: a bar per layer, accuracy and cost beside it |

    ## Version History

    * v0: initial version.
    """  # noqa: E501

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        net: Any = None,
        task: str | Path | None = None,
        evaluator: str | Evaluator = "auto",
        quantizer: str | None = None,
        recipe: str | None = None,
        bitwidths: Sequence[int] | None = None,
        fixed_bitwidths: Mapping[str, int] | None = None,
        groups: Sequence[Sequence[str]] | None = None,
        activation_bitwidth: int | None = None,
        data: Any = None,
        weights: str | Path | None = None,
        evaluator_kwargs: Mapping[str, Any] | None = None,
        observation: str = "layer",
        reward: str | Reward = "accuracy_floor",
        reward_kwargs: Mapping[str, Any] | None = None,
        reward_timing: str = "final",
        gamma: float = 1.0,
        evaluate: str | None = None,
        cost: str | CostModel = "quantization_state",
        cost_kwargs: Mapping[str, Any] | None = None,
        cost_budget: Mapping[str, float] | None = None,
        evaluation_budget: int | Mapping[str, int] | None = None,
        noise: str = "sample",
        on_masked: str = "nearest",
        ledger: Ledger | None = None,
        log: str | Path | None = None,
        render_mode: str | None = None,
        **unknown: Any,
    ):
        if unknown:
            known = [name for name in inspect.signature(type(self)).parameters if name != "unknown"]
            name = next(iter(unknown))
            raise UnknownNameError("keyword", name, known, KEYWORD_HINTS.get(name, ""))
        self.reward_timing = _one_of("reward_timing", reward_timing, TIMINGS)
        default_evaluate = "final" if reward_timing == "final" else "every_step"
        self.evaluate = _one_of("evaluate", evaluate or default_evaluate, EVALUATE)
        if self.evaluate == "final" and reward_timing != "final":
            raise ValueError(
                f"reward_timing={reward_timing!r} needs an accuracy at every step, but "
                "evaluate='final' measures only the last; use evaluate='every_step', or "
                "reward_timing='final'."
            )
        self.noise = _one_of("noise", noise, NOISE)
        self.on_masked = _one_of("on_masked", on_masked, ON_MASKED)
        if render_mode is not None:
            _one_of("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        if not is_real(gamma) or not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma={gamma!r} must lie in (0, 1].")
        self.gamma: float = float(gamma)

        resolved = make_evaluator(
            evaluator,
            net=net,
            task=task,
            quantizer=quantizer,
            recipe=recipe,
            bitwidths=bitwidths,
            activation_bitwidth=activation_bitwidth,
            data=data,
            weights=weights,
            **named_arguments("evaluator_kwargs", evaluator_kwargs, taken=SETTLED),
        )
        problem = Problem(
            resolved,
            reward=make_reward(reward, **named_arguments("reward_kwargs", reward_kwargs)),
            cost_model=make_cost(cost, **named_arguments("cost_kwargs", cost_kwargs)),
            bitwidths=bitwidths,
            fixed_bitwidths=fixed_bitwidths,
            groups=groups,
            cost_budget=cost_budget,
        )
        if problem.measured is not None and self.evaluate == "every_step":
            raise ValueError(
                f"{resolved.name} lacks assignments, among them such as an episode passes on its "
                "way; use evaluate='final'."
            )
        self.ledger = Ledger.given(ledger, evaluation_budget, log)
        self.observation: str = observation
        self._noise_key: int | None = None
        self._visits: dict[int, int] = {}
        self._take_up(problem)

    def _take_up(self, problem: Problem, continues: int | None = None) -> None:
        """Poses this problem from the next reset on, in the log perhaps after that member's."""
        self.problem = problem
        self.observe = OBSERVATIONS[self.observation](problem)
        self.observation_space = self.observe.space
        # Last of what may be refused: the log is another call's then.
        self._trace = Trace(self.ledger, self.ledger.join(self.task, continues))
        self.action_space = gym.spaces.Discrete(len(problem.bitwidths))  # type: ignore[assignment]
        self.__dict__.pop("_prefixes", None)
        self._at: Any = None
        self._over = False

    @cached_property
    def _prefixes(self) -> Prefixes:
        """Made at the first reset: not every environment is walked."""
        return make_prefixes(self.problem, self.observe)

    def set_cost(self, cost_model: CostModel, cost_budget: Mapping[str, float] | None) -> None:
        """Changes what assignments cost and may cost, from the next reset on.

        Args:
            cost_model: As `releq_gym.costs.make_cost` returns it.
            cost_budget: ``{figure: limit}``.

        Raises:
            ValueError: For an unknown figure, and a budget that cannot be met.
        """
        problem = self.problem.with_cost(cost_model, cost_budget)
        self.close()
        self._take_up(problem, continues=self.member)

    def share(self, ledger: Ledger) -> None:
        """Goes on with another ledger, from the next reset on."""
        self.close()
        self.ledger = ledger
        self._take_up(self.problem)

    @property
    def member(self) -> int:
        """Its number in the ledger's log; a copy has one of its own."""
        return self._trace.member

    # The MDP

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Puts every layer back to the maximum bitwidth; measures and charges nothing.

        Args:
            seed: Fixes everything to come, the order of noisy repeats included.
            options: None are known.
        """
        super().reset(seed=seed)
        if options:
            raise UnknownNameError("reset option", next(iter(options)), [])
        if seed is not None or self._noise_key is None:
            drawn = seed if seed is not None else int(self.np_random.integers(2**62))
            self._noise_key = splitmix64(drawn)
            self._visits = {}
            seed = drawn if self._is_noisy else seed  # in the log
        self._trace.end(cut=True)
        self._move(self._prefixes.start())
        self._executed = 0
        self._over = self._evaluated = False
        self._note(Evaluation(self.problem.evaluator.full_precision_accuracy))
        self._previous_reward = 0.0
        if self.ledger.log is not None:
            self._trace.begin(seed, self._bitwidths)
        return self._observation(), self._info()

    def step(self, action: int) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Gives the layer at hand, or its group, a bitwidth and moves on to the next one."""
        if self._at is None:
            raise ResetNeeded("Call reset() before the first step().")
        if self._over:
            raise ResetNeeded("The episode is over; call reset() before the next step().")
        choice, before = self._allowed_choice(action), self._at
        self._move(self._prefixes.after(before, choice))
        self._executed = self.problem.bitwidths[choice]
        terminated = bool(self._prefixes.complete(self._at))
        truncated, reward, repeat = False, 0.0, None
        self._evaluated = False
        if terminated or self.evaluate == "every_step":
            if self.ledger.affords(self.problem, self._bitwidths):
                self._over = True  # until it is paid
                try:
                    repeat = self._measure()
                    reward = self._credit(terminated)
                except BaseException:  # as if the step had not been taken
                    self._move(before)
                    self._noise_key = None  # the visit is counted: the next reset begins anew
                    raise
            else:
                terminated, truncated = False, True
        self._over = terminated or truncated
        if self.ledger.log is not None:
            self._log(int(action), reward, repeat, truncated=truncated)
        elif repeat is not None:
            self._charge(repeat)
        return self._observation(), reward, terminated, truncated, self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """Which bitwidths the layer at hand may take, bool ``[bitwidths]``."""
        if self._at is None:
            return np.ones(len(self.problem.bitwidths), dtype=np.bool_)
        return self._prefixes.allowed(self._at).copy()

    def executed(self, chosen: Sequence[int]) -> tuple[int, ...]:
        """The bitwidths that an episode which asks for these would execute, one per step.

        Args:
            chosen: One of ``problem.bitwidths`` per step.
        """
        bitwidths, prefixes = self.problem.bitwidths, self._prefixes
        at, executed = prefixes.start(), []
        for bitwidth in chosen:
            choice = int(prefixes.executed(at, bitwidths.index(bitwidth)))
            at = prefixes.after(at, choice)
            executed.append(bitwidths[choice])
        return tuple(executed)

    def render(self) -> Any:
        """A string (``"ansi"``) or a uint8 picture [height, width, 3] (``"rgb_array"``)."""
        from releq_gym.render import render_ansi, render_rgb

        if self.render_mode is None:
            gym.logger.warn("render() does nothing without render_mode='ansi' or 'rgb_array'.")
            return None
        if self._at is None:
            raise ResetNeeded("Call reset() before render().")
        draw = render_ansi if self.render_mode == "ansi" else render_rgb
        return draw(self.problem, int(self._prefixes.step(self._at)), self._info())

    def close(self) -> None:
        """Writes what the log still lacks."""
        self._trace.end(cut=True)

    # What stands behind it

    @property
    def task(self) -> dict[str, Any]:
        """What was resolved, as plain JSON; the log of a run begins with it."""
        return {
            **self.problem.describe(),
            "observation": self.observation,
            "reward_timing": self.reward_timing,
            "gamma": self.gamma,
            "evaluate": self.evaluate,
            "noise": self.noise,
        }

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the observation's entries (of its parts, for a Dict)."""
        return self.observe.names

    def _move(self, position: Any) -> None:
        self._at = position
        self._bitwidths: tuple[int, ...] = tuple(self._prefixes.bitwidths(position).tolist())
        self._economics = self._prefixes.economics(position)

    def _allowed_choice(self, action: int) -> int:
        """The action that is taken instead, where this one is masked."""
        problem = self.problem
        whole = type(action) is int  # what `contains` finds out too, more slowly
        if not (
            (whole and 0 <= action < len(problem.bitwidths)) or self.action_space.contains(action)
        ):
            listed = ", ".join(f"{i}: {b} bits" for i, b in enumerate(problem.bitwidths))
            raise ValueError(
                f"Action {action!r} is no whole number that is an index into the bitwidths "
                f"({listed}); of an array or tensor with one number take int(action)."
            )
        action = int(action)
        if not problem.has_masks:
            return action
        executed = int(self._prefixes.executed(self._at, action))
        if executed != action and self.on_masked == "raise":
            allowed = np.flatnonzero(self._prefixes.allowed(self._at)).tolist()
            name = problem.step_names[self._prefixes.step(self._at)]
            choices = ", ".join(str(problem.bitwidths[i]) for i in allowed)
            raise ValueError(
                f"{problem.bitwidths[action]} bits in layer {name!r} would break the cost budget, "
                f"or were not measured; what is left there: {choices} bits. action_masks() says so "
                "beforehand."
            )
        return executed

    @property
    def _is_noisy(self) -> bool:
        """Whether the seed decides what is revealed."""
        return self.noise == "sample" and self.problem.evaluator.repeats > 1

    def _measure(self) -> int:
        """Asks the evaluator; returns which repeat it has answered with."""
        evaluator, bitwidths = self.problem.evaluator, self._bitwidths
        repeat = 0
        if evaluator.repeats > 1:
            repeat = self._next_repeat() if self.noise == "sample" else -1
        evaluation = evaluator.evaluate(bitwidths, repeat)
        if not 0 <= evaluation.accuracy <= 1:
            self.problem.refuse_accuracy(bitwidths, evaluation.accuracy)
        if type(evaluation.accuracy) is not float:  # such as numpy's
            evaluation = evaluation._replace(accuracy=float(evaluation.accuracy))
        self._note(evaluation)
        self._evaluated = True
        return repeat

    def _charge(self, repeat: int) -> None:
        """Books what that repeat has revealed."""
        accuracy, milliseconds, _ = self._evaluation
        self.ledger.charge(self.problem, self._bitwidths, accuracy, milliseconds, repeat)

    def _log(self, action: int, reward: float, repeat: int | None, *, truncated: bool) -> None:
        """Notes a step, and charges for the repeat that it has revealed, if any."""
        trace = self._trace
        if repeat is None and not self._over:
            trace.step(action, reward, self._bitwidths)
            return
        with Uninterrupted():  # lest the log lacks what is counted
            if repeat is not None:
                self._charge(repeat)
                step = int(self._prefixes.step(self._at))
                trace.reveal(step, repeat, self._evaluation.accuracy, self.ledger.fresh)
            elif truncated:
                trace.refuse(self.ledger.fresh)
            trace.step(action, reward, self._bitwidths)
            if self._over:
                trace.end(cut=False)

    def _note(self, evaluation: Evaluation) -> None:
        full, accuracy = self.problem.evaluator.full_precision_accuracy, evaluation.accuracy
        self._evaluation = evaluation
        self._relative_accuracy, self._loss_points = accuracy / full, 100.0 * (full - accuracy)

    def _next_repeat(self) -> int:
        """Another repeat at each visit, from a start that only seed and assignment determine."""
        index = int(self._prefixes.index(self._at))
        visit = self._visits.get(index, 0)
        self._visits[index] = visit + 1
        repeats = self.problem.evaluator.repeats
        assert self._noise_key is not None
        return (first_repeat(self._noise_key, index, repeats) + visit) % repeats

    def _credit(self, terminated: bool) -> float:
        """The reward of this step by the chosen timing."""
        if self.reward_timing == "final" and not terminated:
            return 0.0
        transition: Transition = self.problem.transition(
            self._bitwidths, self._evaluation.accuracy, terminated, self._economics
        )
        reward = self.problem.reward_of(transition)
        if self.reward_timing != "telescoped":
            return reward
        increment = self.gamma * reward - self._previous_reward
        self._previous_reward = reward
        return increment

    def _observation(self) -> Any:
        measured = Measured(self._relative_accuracy, self._loss_points, self._evaluated)
        return self._prefixes.observation(self._at, measured)

    def _info(self) -> dict[str, Any]:
        economics, evaluation = self._economics, self._evaluation
        return {
            "bitwidths": self._bitwidths,
            "executed_bitwidth": self._executed,
            "evaluated": self._evaluated,
            "accuracy": evaluation.accuracy,
            "relative_accuracy": self._relative_accuracy,
            "loss_points": self._loss_points,
            "diverged": evaluation.diverged,
            "cost": economics.cost,
            "state_of_quantization": economics.state_of_quantization,
            "average_bitwidth": economics.average_bitwidth,
            "weighted_bitwidth": economics.weighted_bitwidth,
            **economics.figures,
        }


def _one_of(argument: str, value: Any, choices: Sequence[str]) -> Any:
    if value not in choices:
        raise UnknownNameError(argument, value, choices)
    return value


SETTLED = tuple(inspect.signature(make_evaluator).parameters)[:-1]
"""Arguments of the evaluator that the environment takes itself."""


FROZEN_OPTIONS = ("render_mode", "evaluation_budget", "ledger", "log")


def make_frozen(frozen_id: str, settings: Mapping[str, Any], **options: Any) -> QuantizeNetEnv:
    """Builds the environment of a frozen id, in which nothing but `FROZEN_OPTIONS` is open."""
    refuse_frozen(frozen_id, settings, options)
    return QuantizeNetEnv(**settings, **options)


def refuse_frozen(frozen_id: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Two papers that name an id mean one problem.

    Raises:
        ValueError: For a keyword other than `FROZEN_OPTIONS`.
    """
    refused = [name for name in options if name not in FROZEN_OPTIONS]
    if refused:
        raise ValueError(
            f"{frozen_id} is frozen, so {refused[0]!r} cannot be changed; it takes "
            f"{', '.join(FROZEN_OPTIONS)}. Use 'releq/QuantizeNet-v0' with the keywords "
            f"{dict(settings)!r} and change them there."
        )
