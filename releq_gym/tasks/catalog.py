"""Which tasks are shipped, which one a network gets by default, and the frozen ids."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from releq_gym.registry import UnknownNameError
from releq_gym.tasks.format import Task, load_task, ordered

DEFAULT_TASKS = {
    "digits": "digits-digits-wrpn-short-w2to8",
    "lenet": "lenet-mnist-uniform-ptq-w1to8",
    "simplenet": "simplenet-cifar10-uniform-ptq-w1to8",
    "resnet20": "resnet20-cifar10-uniformpc-ptqbn-w1to8",
    "svhn10": "svhn10-mnistm-uniformpc-ptq-w1to8",
    "vgg11": "vgg11-cifar10-uniformpc-ptq-w1to8",
    "vgg16": "vgg16-cifar10-uniformpc-ptq-w1to8",
    "mobilenet": "mobilenet-imagenet-uniformpc-ptq-w1to8",
    "synthetic": "synthetic-20-0",
}
"""What ``net=`` alone means."""

_SETTINGS = {
    "observation": "layer",
    "reward": "accuracy_floor",
    "reward_timing": "final",
    "cost": "quantization_state",
    "noise": "sample",
}

FROZEN: dict[str, dict[str, Any]] = {
    "releq/DigitsWRPN-v0": {"task": "digits-digits-wrpn-short-w2to8/1.0.0", **_SETTINGS},
    "releq/DigitsDoReFa-v0": {"task": "digits-digits-dorefa_scaled-short-w2to8/1.0.0", **_SETTINGS},
    "releq/DigitsDoReFaStrict-v0": {
        "task": "digits-digits-dorefa_scaled-short-w2to8-loss0.5/1.0.0",
        **_SETTINGS,
    },
    "releq/LeNetWRPN-v0": {"task": "lenet-mnist-wrpn-short-w2to8/1.0.0", **_SETTINGS},
    "releq/LeNetUniform-v0": {"task": "lenet-mnist-uniform-ptq-w1to8/1.0.0", **_SETTINGS},
    "releq/LeNetUniformLossless-v0": {
        "task": "lenet-mnist-uniform-ptq-w1to8-loss0/1.0.0",
        **_SETTINGS,
    },
    "releq/SimpleNetUniform-v0": {"task": "simplenet-cifar10-uniform-ptq-w1to8/1.0.0", **_SETTINGS},
    "releq/ResNet20Uniform-v0": {
        "task": "resnet20-cifar10-uniformpc-ptqbn-w1to8/1.0.0",
        **_SETTINGS,
    },
    "releq/SVHN10Uniform-v0": {"task": "svhn10-mnistm-uniformpc-ptq-w1to8/1.0.0", **_SETTINGS},
    "releq/VGG11Uniform-v0": {"task": "vgg11-cifar10-uniformpc-ptq-w1to8/1.0.0", **_SETTINGS},
    "releq/VGG16Uniform-v0": {"task": "vgg16-cifar10-uniformpc-ptq-w1to8/1.0.0", **_SETTINGS},
    "releq/MobileNetUniform-v0": {
        "task": "mobilenet-imagenet-uniformpc-ptq-w1to8/1.0.0",
        **_SETTINGS,
    },
    "releq/Synthetic20-v0": {"task": "synthetic-20-0", **_SETTINGS},
}
"""Frozen ids and every setting they fix; a change of any of them is a new id."""


def shipped_folder() -> Path:
    """Where the tasks of this installation lie."""
    return Path(str(files("releq_gym"))) / "data" / "tasks"


@cache
def shipped_tasks() -> dict[str, tuple[str, ...]]:
    """Versions of every shipped task by name, oldest first."""
    found: dict[str, list[str]] = {}
    for card in sorted(shipped_folder().glob("*/*/card.json")):
        found.setdefault(card.parent.parent.name, []).append(card.parent.name)
    return {name: tuple(sorted(versions, key=ordered)) for name, versions in found.items()}


def find_task(task: str | Path) -> Task:
    """The task called ``NAME`` (latest version) or ``NAME/VERSION``, or in a folder.

    Raises:
        UnknownNameError: Where it is neither; lists the shipped tasks.
        ValueError: For one that is generated.
    """
    name, _, version = str(task).partition("/")
    versions = shipped_tasks().get(name, ()) if isinstance(task, str) else ()
    if versions and (not version or version in versions):
        return load_task(shipped_folder() / name / (version or versions[-1]))
    if Path(task).is_dir():
        versions = tuple(
            sorted((card.parent.name for card in Path(task).glob("*/card.json")), key=ordered)
        )
        return load_task(Path(task) / versions[-1] if versions else task)
    if str(task).startswith("synthetic-"):
        raise ValueError(
            f"{task} is generated, not measured, so that it has no folder and nothing to verify; "
            "gym.make(..., task=) and `releq task show` take its name."
        )
    hint = "A folder with a card.json serves too; 'synthetic-LAYERS-SEED' is generated."
    if (folder := Path("tasks") / task).is_dir():
        hint = f"There is a folder of that name, {folder}, which serves too."
    elif task in DEFAULT_TASKS:
        hint = f"A net has its task by net={task!r} (--net {task})."
    elif task in FROZEN:
        hint = f"It is the id of an environment, whose task is {FROZEN[task]['task']!r}."
    raise UnknownNameError("task", str(task), shipped_tasks(), hint)
