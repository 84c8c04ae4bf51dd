"""The task file format ``releq-task/1``: reading, checking and writing a task folder."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.archives import DAMAGED
from releq_gym.layers import BITWIDTHS, MAX_LOSS_POINTS, Layer
from releq_gym.plain_numbers import as_json
from releq_gym.whole_files import written_whole

SCHEMA = "releq-task/1"
SPLITS = ("search", "report")
OK, DIVERGED, MISSING = 0, 1, 2
"""Values of ``status``."""

ARRAYS = {
    "correct": np.dtype(np.uint32),
    "milliseconds": np.dtype(np.uint32),
    "status": np.dtype(np.uint8),
    "seed": np.dtype(np.uint32),
}
"""Arrays of ``search.npz`` and ``report.npz``: all [rows, repeats] but seed [repeats]."""

ROW_ARRAYS = {"bitwidths": np.dtype(np.uint8), "source": np.dtype(np.uint8)}
"""What they hold beside those where not every assignment has a row: [rows, layers] and [rows]."""

COMPLETENESS = ("exhaustive", "sampled", "partial")
"""Whether every assignment was measured, a sample that a surrogate is fitted to, or just some."""


class TaskError(ValueError):
    """A task folder that cannot be used; the message names the file."""


@dataclass(frozen=True)
class Measurements:
    """What was measured on one split.

    Attributes:
        correct: Images classified correctly, uint32 [rows, repeats].
        milliseconds: What it took, likewise.
        status: `OK`, `DIVERGED` or `MISSING`, uint8 likewise.
        seed: Of the retraining, uint32 [repeats].
        bitwidths: The assignment of each row, uint8 [rows, layers], where not every one has a row;
            None means all of them, first layer most significant.
        source: Why the row is there, an index into the card's ``sources``, uint8 [rows].
    """

    correct: NDArray[np.uint32]
    milliseconds: NDArray[np.uint32]
    status: NDArray[np.uint8]
    seed: NDArray[np.uint32]
    bitwidths: NDArray[np.uint8] | None = None
    source: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Task:
    """A task folder: its card, and its measurements when they are asked for.

    Attributes:
        folder: Where it lies.
        card: ``card.json`` as it stands.
    """

    folder: Path
    card: dict[str, Any]

    @property
    def name(self) -> str:
        """``id/version``, unique among shipped tasks."""
        return f"{self.card['id']}/{self.card['version']}"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The quantized layers, first to last."""
        return tuple(Layer.from_dict(record) for record in self.card["layers"])

    @property
    def bitwidths(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(self.card["bitwidths"])

    @property
    def configurations(self) -> int:
        """Number of assignments, measured or not."""
        return len(self.bitwidths) ** len(self.layers)

    @property
    def exhaustive(self) -> bool:
        """Whether every one of them was measured."""
        return self.card["completeness"] == "exhaustive"

    @property
    def imported(self) -> bool:
        """Whether somebody else measured it, so that nothing of it can be measured again."""
        return "imported" in self.card.get("sources", ())

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that were measured: both, or an imported task's ``"search"`` alone."""
        return tuple(split for split in SPLITS if split in self.card["sha256"])

    @property
    def activation_bitwidth(self) -> int:
        """Of what flows into every quantized layer."""
        return int(self.card["activation_bitwidth"])

    @property
    def per_channel(self) -> bool:
        """Whether every output channel has a scale of its own."""
        return bool(self.card.get("quantizer_kwargs", {}).get("per_channel", False))

    @property
    def provenance(self) -> dict[str, Any]:
        """What logs state of a task."""
        stated = ("quantizer", "recipe", "activation_bitwidth")
        return {"task": self.name, **{name: self.card[name] for name in stated}}

    def images(self, split: str) -> int:
        """Size of a split."""
        return self.card["splits"][split]["images"]

    @property
    def max_loss_points(self) -> float:
        """The loss that it tolerates, in percentage points."""
        return float(self.card.get("max_loss_points", MAX_LOSS_POINTS))

    def full_precision_accuracy(self, split: str) -> float:
        """Of the unquantized network, in [0, 1]."""
        return self.card["full_precision"]["correct"][split] / self.images(split)

    def assignment(self, measured: Measurements, row: int) -> tuple[int, ...]:
        """The bitwidths of a row of measurements."""
        if measured.bitwidths is not None:
            return tuple(measured.bitwidths[row].tolist())
        digits = configuration(row, len(self.bitwidths), len(self.layers))
        return tuple(self.bitwidths[digit] for digit in digits)

    def measurements(self, split: str) -> Measurements:
        """Reads one split's file and checks it against the card.

        Raises:
            TaskError: For a damaged, truncated, altered or incomplete file, or a split that the
                task does not have.
        """
        if split not in self.splits:
            raise TaskError(f"{self.name} has no {split} data.")
        expected = ARRAYS | ({} if self.exhaustive else ROW_ARRAYS)
        path = self.folder / f"{split}.npz"
        arrays = _read_arrays(path, expected)
        repeats = self.card["repeats"][split]
        rows = self.configurations if self.exhaustive else self.card["rows"][split]
        shapes = {"seed": (repeats,), "bitwidths": (rows, len(self.layers)), "source": (rows,)}
        for name, dtype in expected.items():
            array, shape = arrays[name], shapes.get(name, (rows, repeats))
            if array.dtype != dtype or array.shape != shape:
                raise TaskError(
                    f"{path} is not what its card says: {name} is {array.dtype} {array.shape}, "
                    f"expected {dtype} {shape}."
                )
            _check_hash(path, name, array, self.card["sha256"][split].get(name))
        if "bitwidths" in arrays and not np.isin(arrays["bitwidths"], self.bitwidths).all():
            raise TaskError(f"{path} has assignments with bitwidths that its card does not allow.")
        if (arrays["status"] == MISSING).any():
            count = int((arrays["status"] == MISSING).sum())
            raise TaskError(f"{path} lacks {count} measurements; finish `releq task build` first.")
        return Measurements(**arrays)

    def surrogate(self) -> dict[str, NDArray[Any]]:
        """The integer arrays of the fitted surrogate.

        Raises:
            TaskError: Where there is none, or it is damaged or altered.
        """
        hashes = self.card["sha256"].get("surrogate")
        if hashes is None:
            raise TaskError(f"{self.name} has no surrogate.")
        path = self.folder / "surrogate.npz"
        arrays = _read_arrays(path, hashes)
        for name, array in arrays.items():
            _check_hash(path, name, array, hashes[name])
        return arrays


def load_task(folder: str | Path) -> Task:
    """Reads the card of a task folder.

    Raises:
        TaskError: Where there is no card, it is not one of this schema, or it has been altered.
    """
    folder = Path(folder)
    path = folder / "card.json"
    try:
        card: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TaskError(f"{folder} is no task folder: it has no card.json.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is damaged: {error}.") from None
    check_card(card, path)
    return Task(folder, card)


def check_card(card: Any, path: Path) -> None:
    """Refuses what no task can have for a card.

    Args:
        card: As JSON gives it.
        path: Its file, for the sentence.

    Raises:
        TaskError: Where it is not one of this schema, or it has been altered.
    """
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        raise TaskError(f"{path} is not of schema {SCHEMA!r}.")
    required = {"id", "version", "net", "layers", "bitwidths", "splits", "repeats", "sha256"}
    required |= {"full_precision", "quantizer", "recipe", "completeness", "card_sha256"}
    required |= {"activation_bitwidth"}
    if missing := sorted(required - card.keys()):
        raise TaskError(f"{path} lacks {', '.join(missing)}.")
    if card["card_sha256"] != card_sha256(card):
        raise TaskError(
            f"{path} has been altered: its card_sha256 differs from its content. Restore the "
            "file, or build the task again under a new version."
        )
    try:
        _check_card(card)
    except KeyError as error:
        raise TaskError(f"{path} is malformed: it lacks {error}.") from None
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise TaskError(f"{path} is malformed: {error}") from None


def ordered(version: str) -> tuple[int, ...]:
    """A version as numbers, by which versions are ordered.

    Raises:
        TaskError: For any other text than numbers with dots between them.
    """
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
        raise TaskError(
            f"The version {version!r} has to be numbers with dots between them, such as 1.0.0."
        )
    return tuple(map(int, version.split(".")))


def write_task(
    folder: str | Path,
    card: Mapping[str, Any],
    measured: Mapping[str, Measurements],
    surrogate: Mapping[str, NDArray[Any]] | None = None,
) -> Task:
    """Writes a task folder, whole or not at all, and reads it back.

    Args:
        folder: Where; created. An existing version is not overwritten.
        card: Everything but ``schema``, ``repeats``, ``rows``, ``seeds`` and ``sha256``, which
            follow from the arrays, and ``card_sha256``.
        measured: `Measurements` by split.
        surrogate: Integer arrays of what was fitted to them.

    Raises:
        TaskError: Where the folder holds a task already, or its version has no order.
    """
    folder = Path(folder)
    ordered(card["version"])
    if (folder / "card.json").exists():
        raise TaskError(
            f"{folder} holds a task already; a changed task needs a new version (version=, on the "
            "command line --version), or another folder (--output)."
        )
    files: dict[str, dict[str, NDArray]] = {
        split: {
            name: getattr(values, name).astype(dtype)
            for name, dtype in (ARRAYS | ROW_ARRAYS).items()
            if getattr(values, name) is not None
        }
        for split, values in measured.items()
    }
    if surrogate is not None:
        files["surrogate"] = dict(surrogate)
    hashes = {
        stem: {name: array_sha256(array) for name, array in arrays.items()}
        for stem, arrays in files.items()
    }
    repeats = {split: len(values.seed) for split, values in measured.items()}
    rows = {split: len(values.correct) for split, values in measured.items()}
    seeds = {split: values.seed.tolist() for split, values in measured.items()}
    derived = {"repeats": repeats, "rows": rows, "seeds": seeds, "sha256": hashes}
    complete = _sealed({"schema": SCHEMA, **card, **derived})
    check_card(complete, folder / "card.json")
    for stem, arrays in files.items():
        with written_whole(folder / f"{stem}.npz") as partial:
            np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]  # its stub knows allow_pickle
    return _write_card(folder, complete)


def extend_card(task: Task, **entries: Any) -> Task:
    """Adds entries to the card of a task, or replaces them, and reads it back.

    Only what follows from its measurements: whatever can change a value needs a new version.
    """
    return _write_card(task.folder, _sealed(task.card | entries))


def _sealed(card: dict[str, Any]) -> dict[str, Any]:
    """With its hash, and as JSON gives it back."""
    card = {name: value for name, value in card.items() if name != "card_sha256"}
    card = json.loads(json.dumps(card, default=as_json))
    return {**card, "card_sha256": card_sha256(card)}


def _write_card(folder: Path, card: dict[str, Any]) -> Task:
    with written_whole(folder / "card.json") as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return load_task(folder)


def array_sha256(array: NDArray) -> str:
    """Of the values in little-endian C order, whatever the file's compression."""
    values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(values.tobytes()).hexdigest()


def card_sha256(card: Mapping[str, Any]) -> str:
    """Of a card as canonical JSON, without the hash itself; layout does not matter."""
    hashed = {name: value for name, value in card.items() if name != "card_sha256"}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def configurations(bitwidths: Sequence[int], layers: int) -> NDArray[np.uint8]:
    """Every assignment in the order of the rows of an exhaustive task, [configurations, layers]."""
    grid = np.indices((len(bitwidths),) * layers).reshape(layers, -1)
    return np.array(bitwidths, dtype=np.uint8)[grid.T]


def configuration(index: int, radix: int, layers: int) -> tuple[int, ...]:
    """Digits of a configuration index, first layer most significant."""
    digits = []
    for _ in range(layers):
        index, digit = divmod(index, radix)
        digits.append(digit)
    return tuple(reversed(digits))


def _check_card(card: Mapping[str, Any]) -> None:
    """Raises `ValueError`, or what a card that is built otherwise makes Python raise."""
    for name in ("id", "version", "net", "quantizer", "recipe"):
        _require(isinstance(card[name], str), f"{name} must be text, not {card[name]!r}")
    bitwidths = card["bitwidths"]
    _require(
        all(_is_count(one) and one in BITWIDTHS for one in bitwidths)
        and bitwidths == sorted(set(bitwidths)) != [],
        f"bitwidths must ascend within 1 to 8, not {bitwidths!r}",
    )
    _require(len(card["layers"]) > 0, "layers must not be empty")
    for record in card["layers"]:
        shape = Layer.from_dict(record).weight_shape
        _require(all(map(_is_count, shape)), f"weight_shape must hold sizes, not {shape!r}")
    known = card["completeness"] in COMPLETENESS
    _require(known, f"completeness must be one of {COMPLETENESS}, not {card['completeness']!r}")
    # An imported task may know one set of images only.
    for split in SPLITS if "report" in card["sha256"] else SPLITS[:1]:
        images, repeats = card["splits"][split]["images"], card["repeats"][split]
        correct = card["full_precision"]["correct"][split]
        _require(_is_count(images), f"splits.{split}.images must be positive, not {images!r}")
        _require(_is_count(repeats), f"repeats.{split} must be positive, not {repeats!r}")
        _require(
            _is_count(correct) and correct <= images,
            f"full_precision.correct.{split} must lie within the {images} images, not {correct!r}",
        )
        if card["completeness"] != "exhaustive":
            rows = card["rows"][split]
            _require(_is_count(rows), f"rows.{split} must be positive, not {rows!r}")
        for name in ARRAYS:
            digest = card["sha256"][split][name]
            _require(isinstance(digest, str), f"sha256.{split}.{name} must be text, not {digest!r}")


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(f"{sentence}.")


def _check_hash(path: Path, name: str, array: NDArray, expected: str | None) -> None:
    if array_sha256(array) != expected:
        raise TaskError(
            f"{path} has been altered: the sha256 of {name} differs from card.json. "
            "Restore the file, or build the task again under a new version."
        )


def _read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray]:
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream):
            stream.seek(0)
            archive = np.load(stream, allow_pickle=False)
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        raise TaskError(f"{path} is missing; the task is incomplete.") from None
    except DAMAGED as error:
        raise TaskError(f"{path} is damaged or truncated: {error}.") from None
