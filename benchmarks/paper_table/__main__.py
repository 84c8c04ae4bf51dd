"""``python -m benchmarks.paper_table``: runs what is missing, then prints the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.paper_table.analysis import losses, markdown
from benchmarks.paper_table.run import Bench
from benchmarks.paper_table.sweep import PLANS

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Goes on where an earlier call was stopped; a finished row is never repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_table", description=__doc__)
    parser.add_argument("--net", choices=PLANS, action="append", help="default: all")
    parser.add_argument("--quantizer", action="append", help="default: all that are planned")
    parser.add_argument("--data", help="folder that holds the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper_table"))
    options = parser.parse_args()
    console = Console()
    RESULTS.mkdir(exist_ok=True)
    try:
        for net in options.net or PLANS:
            for plan in PLANS[net]:
                if not options.quantizer or plan.quantizer in options.quantizer:
                    Bench(net, plan, RESULTS, options.runs, options.data, console).run()
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    table = losses(pd.read_csv(RESULTS / "rows.csv"), RESULTS)
    text = markdown(table)
    (RESULTS / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
