"""Full-precision training: where every quantized network starts from."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from torch import nn

from releq_gym.cache import cache_folder
from releq_gym.datasets import Split, load_splits
from releq_gym.datasets.normalise import Normalise
from releq_gym.networks import resolve_network
from releq_gym.networks.base import NETWORKS, Network
from releq_gym.progress import ProgressBars
from releq_gym.quantized import load_weights, save_weights
from releq_gym.training.accuracy import sum_scores
from releq_gym.training.batch_norm import fold_batch_norm, insert_batch_norm
from releq_gym.training.device import place, resolve_device, warn_of_emulation
from releq_gym.training.loop import Run
from releq_gym.training.weights import add_record, default_weights_path, weights_candidates
from releq_gym.whole_files import check_writable, written_whole


@dataclass(frozen=True)
class Pretrained:
    """A finished full-precision training.

    Attributes:
        path: The weights, float16 safetensors; how they came about is in the file's metadata.
        train_accuracy: Of the float16 weights on the train split, in [0, 1].
        search_accuracy: Likewise on the search split.
        seconds: Wall time of this call.
    """

    path: Path
    train_accuracy: float
    search_accuracy: float
    seconds: float


def pretrain(
    net: str | Network,
    data: str | os.PathLike | None = None,
    path: str | os.PathLike | None = None,
    *,
    folder: str | os.PathLike | None = None,
    seed: int = 0,
    recipe_kwargs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    device: str = "auto",
) -> Pretrained:
    """Trains a registered network by its ``pretrain`` recipe and writes its weights.

    The last weights are the result: no split chooses among epochs. The state after each epoch is
    kept, so that a training that was interrupted goes on from there when it is called again.

    Args:
        net: Name of the network.
        data: Where its data set lies, see `releq_gym.datasets.load_splits`.
        path: File to write; None means where `LiveEvaluator` looks for the weights of ``net``.
        folder: Keeps the state of an unfinished training; None means the user's cache.
        seed: Fixes initial weights, order of the images and augmentation.
        recipe_kwargs: Fields of the recipe that are set otherwise, such as ``images``.
        overwrite: Whether weights that are there already, as shipped for one, may be replaced;
            tasks that were measured on them no longer fit then.
        progress: Whether to show a progress bar.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Raises:
        ValueError: For an unknown net, one without such a recipe, weights that would be
            overwritten, data that cannot be read, or a training that diverged.
    """
    started = time.perf_counter()
    network = resolve_network(net)
    if "pretrain" not in network.recipes:
        raise ValueError(
            f"The net {network.name!r} states no recipe 'pretrain', so it cannot be trained here: "
            'register it with recipes={"pretrain": Recipe(images=..., ...)}, or train it yourself '
            "and pass its weights (weights=FILE.safetensors)."
        )
    if path is None and network.name not in NETWORKS:
        raise ValueError(
            f"Nothing looks for weights of {network.name!r} by name: say which file to write "
            "(--output), and pass that as weights=FILE."
        )
    target = _target(network.name, path, overwrite)
    recipe = network.recipes["pretrain"].with_fields(recipe_kwargs or {})
    splits = load_splits(network.dataset, data)
    if splits.train is None:
        raise ValueError(f"The data set {splits.name!r} has no training split to train on.")
    where = resolve_device(device)
    warn_of_emulation(recipe.precision, where)
    train = Split(splits.train.images.to(where), splits.train.labels.to(where))
    normalise = Normalise(network.mean, network.std)
    module = place(build_seeded(network, seed), where, network.input_shape)
    if recipe.fold_batch_norm:
        insert_batch_norm(module)
    run = Run(module, recipe, train.images, train.labels, seed, normalise)

    identity = {
        "net": network.name,
        "dataset": splits.name,
        "train_sha256": splits.train.sha256,
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
    }
    decisive = identity | {"normalise": dataclasses.asdict(normalise), "module": repr(module)}
    state = _State(Path(folder) if folder is not None else cache_folder() / "pretrain", decisive)
    _train(run, max(1, len(train) // recipe.batch_size), state, network.name, progress)

    if recipe.fold_batch_norm:
        fold_batch_norm(module)
    with written_whole(target) as partial:
        save_weights(module, partial, torch.float16)
        load_weights(module, partial)  # measured as it is stored
        train_accuracy, search_accuracy = (
            sum_scores(module, part.images.to(where), part.labels.to(where), normalise) / len(part)
            for part in (splits.train, splits.search)
        )
        record = identity | {
            "train_accuracy": train_accuracy,
            "search_accuracy": search_accuracy,
            "versions": {name: metadata.version(name) for name in ("torch", "numpy")},
        }
        add_record(partial, record)
    state.remove()
    return Pretrained(target, train_accuracy, search_accuracy, time.perf_counter() - started)


def build_seeded(network: Network, seed: int) -> nn.Module:
    """The untrained module; its initial weights depend on ``seed`` alone."""
    # PyTorch initialises from the global generator: it is borrowed, and given back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return network.build()


def _target(name: str, path: str | os.PathLike | None, overwrite: bool) -> Path:
    """Where the weights of a net go: a file that will be read, and may be written."""
    target = Path(path) if path is not None else default_weights_path(name)
    if target.exists() and not overwrite:
        raise ValueError(
            f"There are weights in {target} already, which tasks may have been measured on. Name "
            "another file (--output), or say that they may be replaced (--overwrite)."
        )
    if path is None:
        candidates = weights_candidates(name)
        for known in itertools.takewhile(lambda candidate: candidate != target, candidates):
            if known.is_file():
                raise ValueError(
                    f"There are weights in {known}, which would be read instead of {target}. Name "
                    "a file (--output), and pass it as weights=FILE."
                )
    check_writable(target)
    return target


def _train(run: Run, epoch: int, state: _State, title: str, progress: bool) -> None:
    """Takes all remaining steps, an epoch of them at a time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeRemainingColumn(),
    )
    done = state.load(run)
    with ProgressBars(*columns, disable=not progress) as bar:
        task = bar.add_task(title, total=run.steps, completed=done)
        while done < run.steps:
            stop = min(done + epoch, run.steps)
            if not run.advance(done, stop):
                raise ValueError(
                    f"The training of {title} diverged between steps {done} and {stop}; lower the "
                    "learning_rate of its recipe."
                )
            done = stop
            state.save(run, done)
            bar.update(task, completed=done)


class _State:
    """An unfinished training on disk, found again by everything that decides its outcome."""

    def __init__(self, folder: Path, identity: dict):
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{identity['net']}-{digest[:16]}.pt"

    def load(self, run: Run) -> int:
        """Restores ``run`` and returns how many steps it had taken; 0 where nothing is kept."""
        if not self.path.exists():
            return 0
        kept = torch.load(self.path, map_location=run.images.device, weights_only=True)
        run.module.load_state_dict(kept["module"])
        run.optimizer.load_state_dict(kept["optimizer"])
        return kept["steps"]

    def save(self, run: Run, steps: int) -> None:
        """Keeps ``run`` after ``steps`` steps, never half a file."""
        kept = {
            "steps": steps,
            "module": run.module.state_dict(),
            "optimizer": run.optimizer.state_dict(),
        }
        with written_whole(self.path) as partial:
            torch.save(kept, partial)

    def remove(self) -> None:
        """The training is finished: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)
