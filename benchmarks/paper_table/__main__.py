"""``python -m benchmarks.paper_table``: runs what is missing, then prints the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.paper_table import devices
from benchmarks.paper_table.analysis import effort, labels, losses, table, worth
from benchmarks.paper_table.pictures import draw
from benchmarks.paper_table.run import Bench, unspaced
from benchmarks.paper_table.sweep import OURS, PLANS
from benchmarks.rows import read_rows

RESULTS = Path(__file__).parent / "results"

NUMBERS = {"evaluations": int} | dict.fromkeys(
    ("floor", "weighted_bitwidth", "objective", "simulated_seconds", "seconds"), float
)
"""Columns of ``searches.csv`` that are no text."""


def main() -> int:
    """Goes on where an earlier call was stopped; a finished row is never repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_table", description=__doc__)
    parser.add_argument("--net", choices=PLANS, action="append", help="default: all")
    planned = sorted({plan.quantizer for plans in PLANS.values() for plan in plans})
    parser.add_argument(
        "--quantizer", choices=planned, action="append", help="default: all that are planned"
    )
    parser.add_argument("--data", help="folder that holds the data sets")
    parser.add_argument(
        "--networks",
        type=Path,
        default=Path("runs/paper_table"),
        help="where retrained networks are kept (default: %(default)s)",
    )
    options = parser.parse_args()
    console = Console()
    RESULTS.mkdir(exist_ok=True)
    try:
        for net in options.net or PLANS:
            for plan in PLANS[net]:
                if not options.quantizer or plan.quantizer in options.quantizer:
                    Bench(net, plan, RESULTS, options.networks, options.data, console).run()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    write_page()
    print((RESULTS / "table.md").read_text(encoding="utf-8"))
    return 0


def write_page() -> None:
    """All tables as ``table.md``, and as one picture."""
    if not (RESULTS / "rows.csv").is_file():
        (RESULTS / "table.md").write_text("Nothing has been tested yet.\n", encoding="utf-8")
        return
    every = losses(pd.read_csv(RESULTS / "rows.csv"), RESULTS)
    searches = pd.DataFrame(read_rows(RESULTS / "searches.csv"))
    parts, drawn, pairs = [], {}, []
    for (net, quantizer), group in every.groupby(["net", "quantizer"], sort=False):
        plan = next(plan for plan in PLANS[net] if plan.quantizer == quantizer)
        mine = {"net": net, "quantizer": quantizer}
        candidates = [
            row for row in read_rows(RESULTS / "candidates.csv") if mine.items() <= row.items()
        ]
        named = labels(plan, candidates, max(map(len, group["bitwidths"].str.split())))
        parts += [f"## {net}, {quantizer}", table(group, named), worth(candidates)]
        drawn[f"{net}, {quantizer}"] = (group, named)
        if len(searches):
            own = searches[(searches["net"] == net) & (searches["quantizer"] == quantizer)]
            parts += [effort(own.astype(NUMBERS))] if len(own) else []
        ours = next((bits for bits, names in named.items() if OURS in names), None)
        if ours and "ReLeQ" in plan.published:
            pairs.append(devices.Pair(net, quantizer, unspaced(ours), plan.published["ReLeQ"]))
    if pairs:
        parts += ["## Speed-up over 8 bits", devices.table(pairs)]
    (RESULTS / "table.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draw(drawn, RESULTS / "table.png")


if __name__ == "__main__":
    sys.exit(main())
