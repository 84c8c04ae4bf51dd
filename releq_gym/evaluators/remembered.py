"""Answers that the memo knows, without torch, data or network until something else is asked.

A live evaluator that was built from plain keywords leaves a *card* in its memo: what it says of
itself, and under what its answers are kept. The next one from the same keywords starts from that,
as long as nothing has changed that it was built from.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import itertools
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from releq_gym.evaluators.base import Evaluation, Evaluator, ManyEvaluations, in_columns
from releq_gym.evaluators.measurement import Measurement, check_assignment, pooled, seeds_of
from releq_gym.evaluators.memo import Memo, hash_fields, open_memo
from releq_gym.layers import Layer
from releq_gym.registry import UnknownNameError

if TYPE_CHECKING:
    from releq_gym.evaluators.live import LiveEvaluator

PACKAGE = Path(__file__).parents[1]

DEPENDENCIES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scikit-learn",
    "scipy",
    "pillow",
    "safetensors",
)
"""Packages that decide what is measured, beside this one."""

GPU_FILES = ("nvidia*", "nvhost*", "kfd", "dxg")
"""What lies in ``/dev`` where PyTorch might find a GPU."""

THREAD_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_")
"""How the names of environment variables begin that decide PyTorch's number of threads."""

STATED = (
    "name",
    "net",
    "images",
    "repeats",
    "max_loss_points",
    "activation_bitwidth",
    "per_channel",
    "provenance",
)
"""Attributes of a `LiveEvaluator` that a card holds as they are."""


class RememberedEvaluator:
    """A `LiveEvaluator` that was built before: answers what its memo knows.

    The first question that the memo cannot answer, and the first use of anything else that a
    `LiveEvaluator` has (``module``, ``splits``, ``measure``, ...), builds the real one, which then
    answers everything.

    Args:
        card: What the first one left.
        key: Under what.
        memo: Where.

    Attributes:
        name: As of `LiveEvaluator`, like all that follow.
        net: Name of the network.
        layers: The quantized layers, first to last.
        bitwidths: Those a layer may have, ascending.
        repeats: Independent retrainings per assignment.
        images: Size of the search split.
        full_precision_accuracy: Of the unquantized network on the search split.
        max_loss_points: Loss that the network states as tolerable, in percentage points.
        activation_bitwidth: As given.
        per_channel: Whether every output channel has a scale of its own.
        provenance: What measures, for logs and results.
    """

    name: str
    net: str
    images: int
    repeats: int
    max_loss_points: float
    activation_bitwidth: int
    per_channel: bool
    provenance: dict[str, Any]

    def __init__(self, card: Mapping[str, Any], key: Mapping[str, Any], memo: Memo):
        for attribute in STATED:
            setattr(self, attribute, card["stated"][attribute])
        self.full_precision_accuracy: float = card["full_precision_accuracy"]
        self.layers = tuple(Layer.from_dict(record) for record in card["layers"])
        self.bitwidths: tuple[int, ...] = tuple(card["bitwidths"])
        self._fields, self._keywords = card["fields"], card["keywords"]
        self._key, self._memo = key, memo
        self._further = frozenset(card["further"])

    def __deepcopy__(self, memo: dict) -> RememberedEvaluator:
        """Itself: nothing that counts in it changes."""
        return self

    def __getattr__(self, name: str) -> Any:
        # Not for whatever is asked: a look for an optional attribute would build the network.
        if name.startswith("_") or name not in self._further:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.live, name)

    @cached_property
    def live(self) -> LiveEvaluator:
        """The real one, built at the first access.

        Raises:
            ValueError: Where it cannot be built any more, or is another one than it was.
        """
        live = _build(**self._keywords, memo=self._memo)
        # But for the identity: it holds PyTorch's number of threads, which may be set at any time.
        fields, now = (one | {"identity": None} for one in (self._fields, live.search_fields()))
        same = hash_fields(fields) == hash_fields(now)
        if not same or (live.name, live.layers) != (self.name, self.layers):
            self._memo.put(self._key, None)
            raise ValueError(
                f"What {self.name!r} was made of has changed since: it is {live.name!r} now. Make "
                "the environment anew."
            )
        return live

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """As `LiveEvaluator.evaluate`."""
        known = self._recall([bitwidths], [repeat])
        return self.live.evaluate(bitwidths, repeat) if known is None else known[0]

    def evaluate_many(
        self, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """As `LiveEvaluator.evaluate_many`."""
        known = self._recall(bitwidths.tolist(), repeats.tolist())
        return self.live.evaluate_many(bitwidths, repeats) if known is None else in_columns(known)

    def _recall(
        self, assignments: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> list[Evaluation] | None:
        """The answers, if the memo knows them all and the real evaluator is not at hand."""
        if "live" in vars(self):
            return None
        asked = [
            [
                self._fields | {"bitwidths": check_assignment(bitwidths, self), "seed": seed}
                for seed in seeds_of(repeat, self.repeats)
            ]
            for bitwidths, repeat in zip(assignments, repeats, strict=True)
        ]
        found = self._memo.get_many(list(itertools.chain(*asked)))
        if any(value is None for value in found):
            return None
        values = iter(found)
        return [pooled([Measurement(*next(values)) for _ in fields]) for fields in asked]


def recall_or_build(net: Any, **keywords: Any) -> Evaluator:
    """The live evaluator of these keywords: a `RememberedEvaluator` where that will do.

    Args:
        net: As of `LiveEvaluator`.
        **keywords: Its further arguments; None stands for the default.

    Raises:
        ValueError: For anything that cannot be used as it was given.
    """
    # Before torch is imported: afterwards other things decide its number of threads.
    key, started = _key(net, keywords), time.time_ns()
    kept_in = True if keywords.get("memo") is None else keywords["memo"]
    if key is None or (memo := open_memo(kept_in)) is None:
        return _build(net, **keywords)
    card = memo.get(key)
    if card is not None and card.get("stamp") == _stamp(card.get("files", [])):
        return RememberedEvaluator(card, key, memo)
    live = _build(net, **keywords)
    if (files := _sources(live, net, keywords, started)) is not None:
        memo.put(key, _card(live, net, keywords, files))
    return live


def _build(net: Any, **keywords: Any) -> LiveEvaluator:
    try:
        from releq_gym.evaluators.live import LiveEvaluator
    except ModuleNotFoundError as error:
        raise ValueError(
            f"evaluator='live' needs the package {error.name!r}: "
            "pip install 'releq_gym[live]', or take a shipped task."
        ) from error
    known = inspect.signature(LiveEvaluator).parameters
    for name in keywords:
        if name not in known:
            raise UnknownNameError("evaluator_kwargs", name, known)
    given = {name: value for name, value in keywords.items() if value is not None}
    return LiveEvaluator(net, **given)


def _card(
    live: LiveEvaluator, net: str, keywords: Mapping[str, Any], files: list[str]
) -> dict[str, Any]:
    """What a `RememberedEvaluator` is made from, as plain JSON."""
    plain = {name: value for name, value in keywords.items() if name != "memo"}
    return {
        "stamp": _stamp(files),
        "files": files,
        "keywords": {"net": net, **plain, **_paths(keywords)},
        "stated": {attribute: getattr(live, attribute) for attribute in STATED},
        "full_precision_accuracy": live.full_precision_accuracy,
        "layers": [layer.to_dict() for layer in live.layers],
        "bitwidths": list(live.bitwidths),
        "fields": live.search_fields(),
        "further": [name for name in dir(live) if not name.startswith("_")],
    }


def _sources(
    live: LiveEvaluator, net: str, keywords: Mapping[str, Any], started: int
) -> list[str] | None:
    """The files that an evaluator was built from; None where they do not tell that it is the same.

    So it is on a GPU, with data, a network, a quantizer or a regularizer that code of another
    package makes, and where a file was written after ``started`` (nanoseconds), perhaps after it
    was read.
    """
    from releq_gym.networks import NETWORKS
    from releq_gym.training.regularizers import REGULARIZERS
    from releq_gym.training.weights import weights_candidates

    penalty = REGULARIZERS[live.recipe.regularizer]
    builders = NETWORKS[net].build, type(live.quantizer), penalty
    ours = all(one.__module__.startswith("releq_gym.") for one in builders)
    if live.splits.files is None or live.device.type != "cpu" or not ours:
        return None
    paths = _paths(keywords)
    weights = () if "weights" in paths else weights_candidates(net)
    sources: list[str | Path] = [*paths.values(), *weights, *live.splits.files]
    files = [_absolute(path) for path in sources]
    states = [state for state in map(_state, files) if state is not None]
    return None if any(changed >= started for _, changed in states) else files


def _paths(keywords: Mapping[str, Any]) -> dict[str, str]:
    """The weights and data that are paths, so that they hold in another working folder too."""
    from releq_gym.datasets import DATASETS

    given: dict[str, Any] = {name: keywords.get(name) for name in ("weights", "data")}
    if str(given["data"]) in DATASETS:
        given["data"] = None
    return {name: _absolute(path) for name, path in given.items() if path is not None}


def _key(net: Any, keywords: Mapping[str, Any]) -> dict[str, Any] | None:
    """Under what the card of these keywords is kept; None where there can be none.

    Its stamp tells whether the files are still the same, this key everything else that decides
    which evaluator is built and what it measures.
    """
    if not isinstance(net, str) or ":" in net:
        return None
    if keywords.get("device") != "cpu" and _gpu_possible():
        return None
    plain = {name: value for name, value in keywords.items() if name != "memo"}
    for name in ("weights", "data"):
        if isinstance(plain.get(name), str | os.PathLike):
            plain[name] = [os.fspath(plain[name]), _absolute(plain[name])]
    named = os.environ.get("RELEQ_GYM_DATA")
    key = {
        "card": {"net": net, **plain},
        "package": str(PACKAGE),
        "folders": [
            str(platformdirs.user_data_path("releq_gym")),
            str(platformdirs.user_cache_path("releq_gym")),
            named and _absolute(named),
        ],
        "threads": _threads(),
        "processor": _processor(),
    }
    try:
        hash_fields(key)
    except (TypeError, ValueError):
        return None  # an object that JSON cannot tell from another
    return key


def _stamp(files: Iterable[str]) -> str:
    """A hash of the code and of the state of the files; whatever changes either changes it."""
    fields = {
        "code": package_sha256(),
        "versions": {name: _version(name) for name in DEPENDENCIES},
        "files": [[file, _state(file)] for file in files],
    }
    return hash_fields(fields).hex()


def package_sha256() -> str:
    """Hash of every source file of this package."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE)} {len(source)};".encode())
        digest.update(source)
    return digest.hexdigest()


def _state(file: str) -> tuple[int, int] | None:
    """Size and time of the last change; None for a file that does not exist."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _absolute(path: str | os.PathLike) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _gpu_possible() -> bool:
    """Whether PyTorch might find a GPU, told without importing it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return sys.platform == "win32" or any(any(Path("/dev").glob(name)) for name in GPU_FILES)


def _threads() -> Any:
    """PyTorch's number of threads; before it is imported, everything that decides it."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    variables = {k: v for k, v in sorted(os.environ.items()) if k.startswith(THREAD_VARIABLES)}
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return [variables, os.cpu_count(), usable]


def _processor() -> list[str]:
    """The processor and its abilities, which decide whether bfloat16 is taken."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            first = list(itertools.takewhile(str.strip, file))
    except OSError:
        first = []
    telling = [
        line.strip() for line in first if line.startswith(("model name", "flags", "Features"))
    ]
    return [platform.machine(), *(telling or [platform.processor()])]
