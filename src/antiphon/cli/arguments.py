"""How the sub-commands take their arguments and how their help looks."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

LONGEST_S = 86_400
EXAMPLE_CELLS = 79
JOURNAL_VARIABLE = "ANTIPHON_JOURNAL"


class Help(argparse.HelpFormatter):
    """Wraps each paragraph to the terminal; one whose first line is indented, or lists lines, is kept as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            paragraph if "\n " in paragraph else super(Help, self)._fill_text(paragraph, width, indent)
            for paragraph in text.split("\n\n")
        )


def examples(each: Sequence[tuple[str, str]]) -> str:
    """Commands and what they do, for the end of a help text: side by side where all of them fit, else in turn."""
    width = max(len(command) for command, _ in each)
    if all(2 + width + 2 + len(what) <= EXAMPLE_CELLS for _, what in each):
        return "\n".join(["examples:", *(f"  {command:<{width}}  {what}" for command, what in each)])
    return "\n".join(["examples:", *(f"  {command}\n      {what}" for command, what in each)])


def seconds(text: str) -> float:
    """For ``type=``: 0 to a day."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_S}, such as 1.5")
    return number


def whole(least: int, most: int) -> Callable[[str], int]:
    """For ``type=``: a whole number from ``least`` to ``most``."""

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return found

    return number


def add_journal_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--journal",
        metavar="PATH",
        help=f"the journal to read: a file or a redis:// URL (default: ${JOURNAL_VARIABLE}, else that of the settings)",
    )
