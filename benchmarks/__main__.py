"""Measure the watcher on this machine: `make bench`, or `python -m benchmarks [CASE…]`.

All figures of a case come from one run, measured in turn, as medians. `--json` keeps them, `--compare` sets them beside
those of another version, `--plot` draws the flood's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.cases import CASES, Table
from benchmarks.plot import plot


def main() -> int:
    """Measure what is asked for and print a table for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--scans", type=int, default=1000, metavar="N", help="in a flood (default: 1000)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each flood and start (default: 3)")
    parser.add_argument("--drops", type=int, default=30, metavar="N", help="in the trickle (default: 30)")
    parser.add_argument("--names", type=int, default=100_000, metavar="N", help="in the tree (default: 100000)")
    parser.add_argument("--waiting", type=int, default=10_000, metavar="N", help="at most, in growth (default: 10000)")
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="to stay idle (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="figures of another version, as --json wrote them")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the flood as a PNG")
    options = parser.parse_args()
    if unknown := set(options.cases) - CASES.keys():
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    before = json.loads(options.compare.read_text(encoding="utf-8")) if options.compare else {}
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; at each case the load at its end")
    figures: dict[str, Table] = {}
    for name in options.cases or CASES:
        figures[name] = CASES[name](options)
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"\n{name} ({load}): {CASES[name].__doc__}\n{_text(figures[name], before.get(name, {}))}", flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.plot is not None and "flood" in figures:
        plot(figures["flood"], options.plot)
    return 0


def _text(table: Table, before: Table) -> str:
    """A table as text; in brackets the figures of before."""
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    lines = [["", *columns]]
    for name, row in table.items():
        cells = [_figure(row[column]) if column in row else "" for column in columns]
        old = before.get(name, {})
        lines.append(
            [
                name,
                *(
                    f"{cell} ({old[column]:,.3g})" if column in old else cell
                    for column, cell in zip(columns, cells, strict=True)
                ),
            ]
        )
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns) + 1)]
    return "\n".join(
        line[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def _figure(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
