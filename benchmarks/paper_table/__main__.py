"""``python -m benchmarks.paper_table``: runs what is missing, then prints the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.paper_table import devices
from benchmarks.paper_table.analysis import effort, labels, losses, savings, table
from benchmarks.paper_table.pictures import draw
from benchmarks.paper_table.run import Bench, rows_of, unspaced
from benchmarks.paper_table.sweep import ON_REQUEST, OURS, PLANS
from benchmarks.rows import read_rows

RESULTS = Path(__file__).parent / "results"

NUMBERS = {"evaluations": int} | dict.fromkeys(
    ("floor", "weighted_bitwidth", "objective", "simulated_seconds", "seconds"), float
)
"""Columns of ``searches.csv`` that are no text."""


def main() -> int:
    """Goes on where an earlier call was stopped; a finished row is never repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_table", description=__doc__)
    parser.add_argument(
        "--net",
        choices=PLANS,
        action="append",
        help=f"default: all but {' and '.join(ON_REQUEST)}",
    )
    quantizers = sorted({plan.quantizer for plans in PLANS.values() for plan in plans})
    parser.add_argument(
        "--quantizer", choices=quantizers, action="append", help="default: all that are planned"
    )
    parser.add_argument("--data", help="folder that holds the data sets")
    parser.add_argument(
        "--weights", metavar="FILE", help="checkpoint of the one --net; default: the public one"
    )
    parser.add_argument(
        "--networks",
        type=Path,
        default=Path("runs/paper_table"),
        help="where retrained networks are kept (default: %(default)s)",
    )
    options = parser.parse_args()
    nets = options.net or [net for net in PLANS if net not in ON_REQUEST]
    if options.weights and len(nets) != 1:
        parser.error("--weights is of one network; name it by --net")
    console = Console()
    RESULTS.mkdir(exist_ok=True)
    planned = [
        (net, plan)
        for net in nets
        for plan in PLANS[net]
        if not options.quantizer or plan.quantizer in options.quantizer
    ]
    if not planned:
        parser.error(f"nothing of {', '.join(nets)} is planned with that quantizer")
    keeping = RESULTS, options.networks, options.data, console, options.weights
    try:
        for net, plan in planned:
            Bench(net, plan, *keeping).run()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    write_page()
    print((RESULTS / "table.md").read_text(encoding="utf-8"))
    return 0


def write_page(results: Path = RESULTS) -> None:
    """All tables as ``table.md``, and as one picture, beside the rows."""
    if not (results / "rows.csv").is_file():
        (results / "table.md").write_text("Nothing has been tested yet.\n", encoding="utf-8")
        return
    every = losses(pd.read_csv(results / "rows.csv"), results)
    searches = pd.DataFrame(read_rows(results / "searches.csv"))
    parts, drawn, pairs = [], {}, []
    for (net, quantizer), group in every.groupby(["net", "quantizer"], sort=False):
        plan = next(plan for plan in PLANS[net] if plan.quantizer == quantizer)
        candidates = rows_of(results / "candidates.csv", net, quantizer)
        named = labels(plan, candidates, max(map(len, group["bitwidths"].str.split())))
        title = f"{net}, {quantizer}"
        parts += [f"## {title}", table(group, named)]
        if plan.unclaimed:
            parts += [f"No claim: {plan.unclaimed}."]
        else:
            parts += [savings(candidates)]
            drawn[title] = (group, named)
        if len(searches):
            own = searches[(searches["net"] == net) & (searches["quantizer"] == quantizer)]
            parts += [effort(own.astype(NUMBERS))] if len(own) else []
        ours = next((bits for bits, names in named.items() if OURS in names), None)
        if ours and "ReLeQ" in plan.published and not plan.unclaimed:
            pairs.append(devices.Pair(net, quantizer, unspaced(ours), plan.published["ReLeQ"]))
    for net, command in ON_REQUEST.items():
        if net not in set(every["net"]):
            parts += [f"## {net}", f"Nothing yet; `{command}` fills it."]
    if pairs:
        parts += ["## Speed-up over 8 bits", devices.table(pairs)]
    (results / "table.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draw(drawn, results / "table.png")


if __name__ == "__main__":
    sys.exit(main())
