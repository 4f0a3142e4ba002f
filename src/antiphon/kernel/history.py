"""History is what was heard. The rule of cutting an interrupted reply lives here, and the window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec


class InTurns(Protocol):
    """What has its place in a history."""

    @property
    def turn(self) -> int: ...


LineT = TypeVar("LineT", bound=InTurns)


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One line of a conversation's history. ``role``: user or assistant."""

    role: str
    content: str
    language: str = ""
    turn: int = 0


class Segment(msgspec.Struct, array_like=True):
    """A piece of speech. ``status``: ready, started, played. ``kind``: reply, or a phrase's name."""

    number: int
    text: str
    kind: str = "reply"
    status: str = "ready"
    attempt: int = 1
    language: str = ""


LEADS = ("filler", "resumed")
"""Phrases that come before an answer and are none."""


def heard_text(segments: Sequence[Segment], stopped_in: int, heard_chars: int) -> str:
    """What was heard when playout stopped ``heard_chars`` characters into segment ``stopped_in``.

    ``segments`` stand in the order of play. What was begun before it was heard whole, what comes
    after it not at all; -1: nothing was heard.
    """
    parts: list[str] = []
    for segment in segments if stopped_in >= 0 else ():
        if segment.number == stopped_in:
            parts.append(whole_words(segment.text, heard_chars))
            break
        if segment.status != "ready":
            parts.append(segment.text.strip())
    return " ".join(part for part in parts if part)


def unheard_texts(segments: Sequence[Segment], stopped_in: int, heard_chars: int) -> list[str]:
    """What was not heard of an answer when playout stopped there (see ``heard_text``), one text for each segment."""
    numbers = [segment.number for segment in segments]
    at = numbers.index(stopped_in) if stopped_in in numbers else -1
    rest = [segment.text for segment in segments]
    if at >= 0:
        head = whole_words(rest[at], heard_chars)
        rest[at] = rest[at].strip().removeprefix(head)
    return [
        text.strip()
        for text, segment in zip(rest[max(at, 0) :], segments[max(at, 0) :], strict=True)
        if text.strip() and segment.kind not in LEADS
    ]


def whole_words(text: str, chars: int) -> str:
    """The first ``chars`` characters of a text, without a word that was broken off."""
    if chars >= len(text):
        return text.strip()
    head = text[: max(chars, 0)]
    if head and not head[-1].isspace() and not text[len(head)].isspace():
        cut = max(head.rfind(" "), head.rfind("\n"))
        head = head[: cut + 1] if cut >= 0 else ""
    return head.strip()


def played_text(segments: Sequence[Segment]) -> str:
    parts = [segment.text.strip() for segment in segments if segment.status == "played"]
    return " ".join(part for part in parts if part)


def without_leads(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, with nothing said in those that are no answer."""
    return [msgspec.structs.replace(part, text="") if part.kind in LEADS else part for part in segments]


def add(history: list[LineT], message: LineT, turns: int) -> None:
    """Adds in turn order (a reply's end can be reported after the next question) and keeps ``turns`` turns."""
    at = len(history)
    while at and history[at - 1].turn > message.turn:
        at -= 1
    history.insert(at, message)
    recent = sorted({entry.turn for entry in history})[-turns:] if turns else []
    oldest = recent[0] if recent else message.turn
    while history and history[0].turn < oldest:
        del history[0]
