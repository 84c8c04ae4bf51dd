import numpy as np
import pandas as pd
import pytest

from benchmarks.paper_table.analysis import losses, markdown
from benchmarks.paper_table.run import FULL_PRECISION, answers_path

IMAGES = 1000


def row(folder, label, bitwidths, seed, wrong):
    """A row that errs on the first ``wrong`` images."""
    right = np.ones(IMAGES, dtype=bool)
    right[:wrong] = False
    np.save(answers_path(folder, "net", "lsq", bitwidths, seed), np.packbits(right))
    return {
        "net": "net",
        "quantizer": "lsq",
        "label": label,
        "bitwidths": bitwidths,
        "seed": seed,
        "correct": int(right.sum()),
        "images": IMAGES,
        "accuracy": right.mean(),
        "weighted_bitwidth": 2.0,
        "average_bitwidth": 3.0,
    }


@pytest.fixture
def table(tmp_path):
    made = [
        row(tmp_path, FULL_PRECISION, "full", 0, 10),
        row(tmp_path, FULL_PRECISION, "full", 1, 12),
        row(tmp_path, "ours", "2 4", 0, 20),
        row(tmp_path, "ours", "2 4", 1, 22),
    ]
    return losses(pd.DataFrame(made), tmp_path)


def test_losses_are_against_full_precision_with_the_same_seed(table):
    ours = table[table["label"] == "ours"].iloc[0]
    assert ours["loss_points"] == pytest.approx(1.0)
    assert ours["accuracy"] == pytest.approx(97.9)
    assert ours["seeds"] == 2


def test_the_interval_pairs_the_images(table):
    ours = table[table["label"] == "ours"].iloc[0]
    # Images 10, 11 differ with one seed or the other, 12 to 19 with both, 20 and 21 with one.
    differences = np.zeros(IMAGES)
    differences[10:12], differences[12:20], differences[20:22] = 0.5, 1.0, 0.5
    expected = 196 * differences.std(ddof=1) / np.sqrt(IMAGES)
    assert ours["margin_points"] == pytest.approx(expected)


def test_the_table_reads_as_markdown(table):
    text = markdown(table)
    assert "| ours | 2 4 | 2.00 | 3.00 | 97.90 (0.14, 2) | +1.00 ± 0.59 |" in text
