"""``antiphon chart``: draws a state chart from the very table that runs."""

from __future__ import annotations

import argparse

HELP = "draw a state chart as Mermaid"
EXAMPLES = (
    ("antiphon chart floor", "as Mermaid"),
    ("antiphon chart floor --format table", "every rule, in their order"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draws a state chart from the table that runs: as Mermaid (paste it into a Markdown file, or into any Mermaid "
        "viewer), or as a plain table with every rule in the order in which it is tried."
    )
    parser.add_argument("chart", choices=("floor",), help="floor: who may speak")
    parser.add_argument("--format", choices=("mermaid", "table"), default="mermaid", help="default: mermaid")


def run(args: argparse.Namespace) -> int:
    from antiphon.kernel.chart import describe, mermaid
    from antiphon.kernel.floor import FLOOR

    charts = {FLOOR.name: FLOOR}
    chart = charts[args.chart]
    print((mermaid(chart) if args.format == "mermaid" else describe(chart)).rstrip("\n"))
    return 0
