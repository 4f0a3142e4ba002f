"""Language: which one the conversation is held in, and what it takes to change that. The rule lives here.

A caller who says one sentence in another language has not changed the conversation's: detections of the
same other language in a row do, ``language_switches`` of them (A36, A38). What the caller chose
expressly, in the menu or in words, holds at once, and is left only for ``language_unlock`` detections in a
row (X42). Detections without confidence say nothing.
"""

from __future__ import annotations

import msgspec

HISTORY = 5
"""Detections that are remembered, for showing (A36)."""


class Tongue(msgspec.Struct, array_like=True):
    """The language of one conversation, and what speaks for another. Tags are BCP 47; "" is unknown."""

    selected: str = ""
    detected: str = ""
    history: list[str] = []
    different: str = ""
    """The other language that was detected last."""
    in_a_row: int = 0
    """How often, one after the other."""
    turns: int = 0
    """Turns of the caller that told a language."""
    locked: bool = False
    """The caller chose ``selected`` expressly."""


class Switch(msgspec.Struct, frozen=True):
    """A change that was decided. ``reason``: chosen, or detected."""

    language: str
    previous: str
    reason: str


def choose(tongue: Tongue, language: str) -> Switch | None:
    """The caller's own choice: holds at once and locks."""
    previous = tongue.selected
    tongue.selected = language
    tongue.locked = True
    _forget_others(tongue)
    return Switch(language, previous, "chosen") if language != previous else None


def detect(tongue: Tongue, language: str, *, switches: int, min_turns: int, unlock: int) -> Switch | None:
    """Books the language of one turn; the switch it decides, or None.

    ``switches`` detections in a row are needed (``unlock`` of them if that is more and the language was
    chosen), and ``min_turns`` turns altogether, this one included.
    """
    tongue.turns += 1
    tongue.detected = language
    tongue.history.append(language)
    del tongue.history[:-HISTORY]
    if language == tongue.selected:
        _forget_others(tongue)
        return None
    tongue.in_a_row = tongue.in_a_row + 1 if language == tongue.different else 1
    tongue.different = language
    needed = max(switches, unlock) if tongue.locked else switches
    if tongue.in_a_row < needed or tongue.turns < min_turns:
        return None
    previous, tongue.selected = tongue.selected, language
    tongue.locked = False
    tongue.in_a_row = 0
    return Switch(language, previous, "detected")


def _forget_others(tongue: Tongue) -> None:
    tongue.different, tongue.in_a_row = "", 0
