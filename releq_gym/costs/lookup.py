"""A table of measured costs: one number per layer and bitwidth."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from releq_gym.costs import COSTS, Figures
from releq_gym.layers import Layer
from releq_gym.registry import UnknownNameError


@COSTS.register("lookup")
@dataclass(frozen=True)
class Lookup:
    """What you measured on your device.

    What it counts: whatever the table's values are, a sum over layers.
    Units: the table's own, named by ``figure``.
    What it leaves out: what is not a sum over layers: layers that are not in it, and how they
        overlap on the device.
    Source: your measurements; latency tables as in HAQ, Wang et al., CVPR 2019, arXiv 1811.08886.

    Attributes:
        path: A CSV with the columns ``layer``, ``bitwidth`` and ``value``, or instead of that one
            called ``figure``, so that a table may hold several; or JSON: a list of such rows, or
            an object with ``rows`` and perhaps ``figure`` and ``layers``, as ``releq
            hardware measure`` writes it. Layers of the network must all be there, those of others
            may; where ``layers`` states shapes and MACs, they have to be the network's.
        figure: What the values are; None takes the file's ``figure``, else ``"value"``.
        interpolate: Whether bitwidths between measured ones are interpolated linearly. What lies
            outside them is never made up.
    """

    path: str | os.PathLike
    figure: str | None = None
    interpolate: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise ValueError(f"path={self.path!r} has to name a CSV or JSON file.")
        if not isinstance(self.figure, str | None) or self.figure == "":
            raise ValueError(f"figure={self.figure!r} has to be a name, such as 'milliseconds'.")
        if not isinstance(self.interpolate, bool):
            raise ValueError(f"interpolate={self.interpolate!r} has to be True or False.")

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``, NaN where nothing is known.

        Raises:
            ValueError: For a file that is none of these, wrong rows, or a layer without any.
        """
        table, figure, about = _read_table(self.path, self.figure)
        for layer in layers:
            if about.get(layer.name, _about(layer)) != _about(layer):
                raise ValueError(
                    f"{self.path} is about another {layer.name!r}, with weights of shape "
                    f"{about[layer.name][0]} and {about[layer.name][1]:,} MACs; this one has "
                    f"{list(layer.weight_shape)} and {layer.macs:,}. Measure this network."
                )
        missing = [layer.name for layer in layers if layer.name not in table]
        if missing:
            raise ValueError(
                f"{self.path} has no row for {_few(missing)}; it knows {_few(list(table))}."
            )
        rows = [self._row(table[layer.name], bitwidths) for layer in layers]
        return {self.figure or figure: np.array(rows, dtype=np.float64)}

    def _row(self, known: Mapping[int, float], bitwidths: Sequence[int]) -> list[float]:
        if not self.interpolate:
            return [known.get(bitwidth, np.nan) for bitwidth in bitwidths]
        measured = sorted(known)
        values = [known[bitwidth] for bitwidth in measured]
        return np.interp(bitwidths, measured, values, left=np.nan, right=np.nan).tolist()


def _about(layer: Layer) -> tuple[list[int], int]:
    return list(layer.weight_shape), layer.macs


def _read_table(
    path: str | os.PathLike, wanted: str | None
) -> tuple[dict[str, dict[int, float]], str, dict[str, tuple[list[int], int]]]:
    """The values by layer and bitwidth, what they are, and the layers' shapes and MACs if stated.

    Raises:
        ValueError: For a file that cannot be read, lacks columns, or has rows that are no numbers,
            negative, or there twice.
    """
    rows, figure, stated = _read(Path(path).expanduser())
    first = rows[0] if rows and isinstance(rows[0], Mapping) else {}
    column = _column(path, wanted, figure, first)
    columns = ("layer", "bitwidth", column)
    table: dict[str, dict[int, float]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or not all(name in row for name in columns):
            read = ", ".join(map(repr, row)) if isinstance(row, Mapping) else repr(row)
            advice = "figure= names the column that holds the values."
            if ";" in read or "\\t" in read:
                advice = "Separate the columns by commas."
            raise ValueError(
                f"{path}, row {number}, lacks one of {', '.join(columns)}; it has {read:.80}. "
                + advice
            )
        if None in row:  # as the csv module has it
            raise ValueError(
                f"{path}, row {number}, has more fields than the first line names; decimals need a "
                "point."
            )
        try:
            bitwidth, value = float(row["bitwidth"]), float(row[column])
        except (TypeError, ValueError, OverflowError):
            bitwidth, value = math.nan, math.nan
        if not (bitwidth.is_integer() and bitwidth > 0 and math.isfinite(value) and value >= 0):
            raise ValueError(
                f"{path}, row {number}: bitwidth={row['bitwidth']!r}, {column}={row[column]!r}; "
                "a bitwidth is a whole number from 1 up, what it costs a number from 0 up."
            )
        of_layer = table.setdefault(str(row["layer"]), {})
        if bitwidth in of_layer:
            raise ValueError(
                f"{path}, row {number}: {row['layer']} at {bitwidth:g} bits is there twice."
            )
        of_layer[int(bitwidth)] = value
    if not table:
        raise ValueError(f"{path} has no rows; it needs {', '.join(columns)}.")
    try:
        about = {one["layer"]: (list(one["weight_shape"]), int(one["macs"])) for one in stated}
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{path}: each of 'layers' has to state layer, weight_shape and macs."
        ) from None
    return table, figure, about


OTHER_COLUMNS = ("layer", "bitwidth", "value", "spread")
"""That are no figure's own; `releq hardware measure` writes them."""


def _column(
    path: str | os.PathLike, wanted: str | None, figure: str, row: Mapping[Any, Any]
) -> str:
    """Which column holds a figure: its own, or ``value`` where that can mean nothing else.

    Raises:
        UnknownNameError: Where there is neither, and nothing else is wrong with the row.
    """
    if wanted is None:
        return "value"
    if wanted in row or None in row or not {"layer", "bitwidth"} <= row.keys():
        return wanted
    others = [name for name in row if name not in OTHER_COLUMNS]
    if "value" in row and (figure == wanted or (figure == "value" and not others)):
        return "value"
    stated = [figure] if "value" in row else []
    raise UnknownNameError(f"figure of {path}", wanted, stated + others)


def _read(path: Path) -> tuple[list[Any], str, list[Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if path.suffix.lower() != ".json":
        try:
            return list(csv.DictReader(text.splitlines(), skipinitialspace=True)), "value", []
        except csv.Error as error:
            raise ValueError(f"{path} is no CSV: {error}") from error
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if isinstance(found, Mapping):
        rows, layers = found.get("rows", []), found.get("layers", [])
        if isinstance(rows, list) and isinstance(layers, list):
            return rows, str(found.get("figure", "value")), layers
    elif isinstance(found, list):
        return found, "value", []
    raise ValueError(
        f"{path} holds neither a list of rows nor an object whose 'rows', and 'layers' if there, "
        "are lists."
    )


def _few(names: list[str]) -> str:
    listed = ", ".join(map(repr, names[:4]))
    return f"{listed} and {len(names) - 4} more" if len(names) > 4 else listed
