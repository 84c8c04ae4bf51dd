"""From rows to the table; nothing here trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paper_table.run import FULL_PRECISION, answers_path


def losses(rows: pd.DataFrame, results: Path) -> pd.DataFrame:
    """Mean accuracy and loss of every assignment over its retraining seeds.

    The loss is against full precision trained on by the same recipe with the same seeds; its 95 %
    interval pairs the images: the mean over seeds of each image's difference, over the images.

    Args:
        rows: ``rows.csv``.
        results: Folder with the right answers of each row.
    """
    records = []
    for (net, quantizer), group in rows.groupby(["net", "quantizer"], sort=False):
        full = group[group["label"] == FULL_PRECISION].set_index("seed")
        for (label, bitwidths), of_row in group.groupby(["label", "bitwidths"], sort=False):
            paired = of_row[of_row["seed"].isin(full.index)]
            differences = np.mean(
                [
                    _right(results, net, quantizer, "full", seed, images).astype(float)
                    - _right(results, net, quantizer, bitwidths, seed, images)
                    for seed, images in zip(paired["seed"], paired["images"], strict=True)
                ],
                axis=0,
            )
            records.append(
                {
                    "net": net,
                    "quantizer": quantizer,
                    "label": label,
                    "bitwidths": bitwidths,
                    "weighted_bitwidth": of_row["weighted_bitwidth"].iloc[0],
                    "average_bitwidth": of_row["average_bitwidth"].iloc[0],
                    "seeds": len(of_row),
                    "accuracy": 100 * of_row["accuracy"].mean(),
                    "sd": 100 * of_row["accuracy"].std(ddof=1) if len(of_row) > 1 else 0.0,
                    "loss_points": 100 * differences.mean(),
                    "margin_points": 196 * differences.std(ddof=1) / np.sqrt(len(differences)),
                }
            )
    return pd.DataFrame(records)


def markdown(table: pd.DataFrame) -> str:
    """One table per network and quantizer, fewest weighted bits last."""
    parts = []
    for (net, quantizer), group in table.groupby(["net", "quantizer"], sort=False):
        lines = [
            f"**{net}, {quantizer}**",
            "",
            "| assignment | bitwidths | bits per weight | plain average | test accuracy % "
            "(sd, seeds) | loss in points (95 %) |",
            "|---|---|---|---|---|---|",
        ]
        ordered = group.sort_values("weighted_bitwidth", ascending=False)
        for row in ordered.itertuples():
            bits = "" if row.label == FULL_PRECISION else f"{row.weighted_bitwidth:.2f}"
            plain = "" if row.label == FULL_PRECISION else f"{row.average_bitwidth:.2f}"
            assigned = "" if row.label == FULL_PRECISION else row.bitwidths
            loss = (
                ""
                if row.label == FULL_PRECISION
                else f"{row.loss_points:+.2f} ± {row.margin_points:.2f}"
            )
            lines.append(
                f"| {row.label} | {assigned} | {bits} | {plain} | "
                f"{row.accuracy:.2f} ({row.sd:.2f}, {row.seeds}) | {loss} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _right(
    results: Path, net: str, quantizer: str, bitwidths: str, seed: int, images: int
) -> np.ndarray:
    packed = np.load(answers_path(results, net, quantizer, bitwidths, seed), allow_pickle=False)
    return np.unpackbits(packed, count=images)
