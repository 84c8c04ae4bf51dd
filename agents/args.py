"""The command line of `agents.train`: one typed record, a line of help under each field."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from agents.base import AGENTS, find_agent
from releq_gym.commands.pairs import each, figure_and_limit, layer_and_bits, name_and_value
from releq_gym.costs import COSTS
from releq_gym.observation import OBSERVATIONS
from releq_gym.quantizers import QUANTIZERS
from releq_gym.registry import Registry, UnknownNameError
from releq_gym.rewards import REWARDS
from releq_gym.whole_files import written_whole

SETTINGS_FILE = "settings.json"

S = TypeVar("S")


def _named(registry: Registry[Any], default: str = "") -> Any:
    """An option whose help lists what is registered."""

    def hint(stated: str) -> str:
        begins = default if stated == "None" else stated
        return f"(default: {begins}; there are {', '.join(registry.names())})"

    return tyro.conf.arg(help_behavior_hint=hint)


def _presets(default: str) -> str:
    several = [name for name in AGENTS.names() if len(AGENTS[name].presets) > 1]
    further = [f"{name}: {', '.join(AGENTS[name].presets)}" for name in several]
    return f"(default: {default}; {'; '.join(further)})"


def _pairs(metavar: str, parse_one: Callable[[str], tuple[str, Any]]) -> Any:
    """Reads a dict as `releq search` does."""
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{metavar} ...",
        instance_from_str=lambda typed: each(parse_one, typed),
        is_instance=lambda value: value is None or isinstance(value, dict),
        str_from_instance=lambda pairs: (
            [f"{name}={pairs[name]}" for name in pairs or ()] or ["none"]
        ),
    )


@dataclass(frozen=True)
class Args(Generic[S]):
    """Learns bitwidths for the layers of a network, then retrains and reports the best found."""

    settings: Annotated[S, tyro.conf.arg(name="")]

    net: str | None = None
    """Network: a name as in `releq nets`, or package.module:factory; by default the task's, else
    digits."""
    task: str | None = None
    """Shipped task by name, or a task folder; by default the net's."""
    evaluator: str = "auto"
    """auto looks accuracies up in the task; live quantizes, retrains and measures."""
    data: str | None = None
    """Where the images lie, for the live evaluator and for the report."""
    weights: str | None = None
    """Full-precision checkpoint (safetensors) for the live evaluator."""
    quantizer: Annotated[str | None, _named(QUANTIZERS, "the task's, live wrpn")] = None
    """What rounds the weights."""
    recipe: str | None = None
    """Retraining behind each accuracy: ptq, short or long; by default the task's, live short where
    there are training images and the net has such a recipe, else ptq."""
    repeats: int | None = None
    """Retrainings per assignment of the live evaluator, one more each time it is asked again; by
    default 1."""
    search_from_train: bool = False
    """Accept search images that the checkpoint may have been trained on; results then say so."""
    bitwidths: tuple[int, ...] | None = None
    """Choice per layer; by default all that the evaluator has."""
    fixed_bitwidths: Annotated[dict[str, int] | None, _pairs("LAYER=BITS", layer_and_bits)] = None
    """Layers that are not chosen: conv1=8 fc2=8."""
    groups: tuple[str, ...] | None = None
    """Layers that share one bitwidth, without blanks: conv1,conv2 fc1,fc2."""

    observation: Annotated[str, _named(OBSERVATIONS)] = "layer"
    """What the agent sees."""
    reward: Annotated[str, _named(REWARDS)] = "accuracy_floor"
    """What is to be large; package.module:name is a function or frozen dataclass of yours."""
    max_loss_points: float | None = None
    """Points of accuracy that accuracy_floor tolerates to lose; by default the task's."""
    reward_timing: str = "final"
    """When it is paid: final, every_step or telescoped."""
    cost: Annotated[str, _named(COSTS)] = "quantization_state"
    """What is to be small; package.module:name is a function or frozen dataclass of yours."""
    cost_kwargs: Annotated[dict[str, Any] | None, _pairs("NAME=VALUE", name_and_value)] = None
    """Its parameters: path=mine.csv."""
    cost_budget: Annotated[dict[str, float] | None, _pairs("FIGURE=LIMIT", figure_and_limit)] = None
    """Limits that no assignment exceeds, by figure of the cost model: cost=0.4."""
    evaluation_budget: int | None = None
    """Different assignments that may be measured; by default 600, live 150. A resumed run may have
    more."""

    agent: Annotated[str, _named(AGENTS)] = "recurrent_ppo"
    """What learns; package.module:Class is one of yours. Settings at the end of this list are its
    own."""
    preset: Annotated[str, tyro.conf.arg(help_behavior_hint=_presets)] = "default"
    """Settings to start from; some set options of the environment, too."""
    threads: int = 1
    """Threads of PyTorch. The policy gains nothing from more; large live networks do."""
    seed: int = 0
    """Fixes a run that is not interrupted; a resumed one draws anew."""
    folder: Path | None = None
    """Where everything goes; by default a new folder under runs/."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue the run in --folder, with the settings it was begun with; one that is finished goes
    on with a higher --evaluation-budget, or --report. Its agent.zip is pickled, and could run code:
    resume runs of your own, or of people you trust."""
    report: bool = True
    """Whether to retrain the answer for long and test it on the report split."""


def parse(arguments: Sequence[str] | None = None) -> Args[Any]:
    """Reads the command line.

    Agent and preset, or the run to resume, decide which options there are and their defaults, so
    they are looked up first.

    Args:
        arguments: None means those of the process.

    Raises:
        ValueError: For unknown names, or a resumed run that is asked to change.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("agent", "preset", "folder"):
        first.add_argument(f"--{name}")
    first.add_argument("--resume", action="store_true")
    chosen, _ = first.parse_known_args(arguments)
    if chosen.resume:
        if chosen.folder is None:
            raise ValueError("--resume needs --folder, the folder of the run to continue.")
        defaults = read_settings(Path(chosen.folder))
    else:
        defaults = _preset(chosen.agent or "recurrent_ppo", chosen.preset or "default")
    parameterised: Any = Args[type(defaults.settings)]  # type: ignore[misc]
    args: Args[Any] = tyro.cli(
        parameterised,
        args=arguments,
        default=defaults,
        prog="python -m agents.train",
        description=Args.__doc__,
    )
    if args.seed < 0:
        raise ValueError(f"seed={args.seed} must be a whole number, 0 or more.")
    if chosen.resume and (changed := _first_change(args, defaults)):
        raise ValueError(
            f"A resumed run keeps its settings, but {changed} differs from those in "
            f"{chosen.folder}; leave it out, or begin a new run in another folder."
        )
    return args


def write_settings(folder: Path, args: Args[Any]) -> None:
    """Keeps what a resumed run needs to know."""
    record = dataclasses.asdict(dataclasses.replace(args, resume=False))
    with written_whole(folder / SETTINGS_FILE) as partial:
        partial.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def read_settings(folder: Path) -> Args[Any]:
    """What `write_settings` wrote.

    Raises:
        ValueError: Where there is no run.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise ValueError(f"There is no run to resume in {folder}: it has no {SETTINGS_FILE}.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings_type = type(find_agent(record["agent"]).presets["default"].settings)
        record["settings"] = settings_type(**record["settings"])
        for name in ("bitwidths", "groups"):
            if record.get(name) is not None:
                record[name] = tuple(record[name])
        return Args(**{**record, "folder": folder})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}.") from None


def _preset(agent: str, name: str) -> Args[Any]:
    presets = find_agent(agent).presets
    if name not in presets:
        raise UnknownNameError(f"preset of {agent}", name, presets)
    preset = presets[name]
    return Args(preset.settings, agent=agent, preset=name, **preset.environment)


def _first_change(args: Args[Any], defaults: Args[Any]) -> str | None:
    """The option that differs, as it is typed."""
    free = {"settings", "resume", "evaluation_budget", "report"}
    if defaults.evaluator != "live":
        free.add("data")  # it serves the report alone, which may have lacked it
    for now, before in ((args, defaults), (args.settings, defaults.settings)):
        for field in dataclasses.fields(now):
            kept = getattr(now, field.name) == getattr(before, field.name)
            if not kept and field.name not in free:
                return f"--{field.name.replace('_', '-')}"
    return None
