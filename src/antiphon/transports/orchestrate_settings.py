"""What a socket on ``/orchestrate`` asks for in its query, checked before it opens."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal

import msgspec

from antiphon.errors import PeerError
from antiphon.media import decimate
from antiphon.runtime.ports import CALL_ID
from antiphon.transports.query import read_fields

PATH: Final = "/orchestrate"
EVENTS: Final = ("state", "transcript", "spoken", "latency", "floor")
RATES: Final = decimate.RATES
"""Hz: those that the voice activity detector takes. Opus decodes to each of them."""

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
"""A BCP 47 tag, as far as one is looked at."""
_BAD: Final = "orchestrate.bad_query"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One socket's wishes.

    - ``session``: the id (X37); one that was known goes on, a new one begins.
    - ``audio``: ``binary`` messages, ``base64`` in JSON, or ``none``; ``codec`` and ``rate`` (Hz) hold both ways.
    - ``events``: what is told besides ``connected``, ``response``, audio, ``error`` and ``ended``.
    - ``greet``: the agent speaks first. ``marks``: the client answers marks; else a clock is believed.
    - ``language``: a BCP 47 tag; "" for the server's own.
    """

    session: str
    audio: Literal["binary", "base64", "none"] = "binary"
    codec: Literal["pcm16", "opus"] = "pcm16"
    rate: int = 16_000
    events: frozenset[str] = frozenset()
    greet: bool = False
    language: str = ""
    marks: bool = False


def read_query(query: str, languages: Collection[str] = ()) -> Asked:
    """``languages``: those on offer, none: any. Raises ``PeerError`` ``orchestrate.bad_query``."""
    fields = read_fields(query, _READ, _BAD)
    found: dict[str, Any] = {name: _READ[name](name, value) for name, value in fields.items()}
    if "language" in found and (wrong := wrong_language(found["language"], languages)):
        raise _bad(wrong)
    found["session"] = found.pop("session_id", "") or str(uuid.uuid4())
    return msgspec.convert(found, Asked)


def wrong_language(tag: str, offered: Collection[str]) -> str:
    """What is wrong with a language that a caller is said to speak, "" if nothing is. ``offered``: none is any."""
    if not LANGUAGE.fullmatch(tag):
        return "language must be a BCP 47 tag such as en-IN"
    return f"language must be one of {', '.join(offered)}" if offered and tag not in offered else ""


def _bad(why: str) -> PeerError:
    return PeerError(why, code=_BAD)


def _session(name: str, value: str) -> str:
    if not CALL_ID.fullmatch(value):
        raise _bad(f"{name} must be 1 to 255 letters, digits, '_', '.', ':' or '-'")
    return value


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise _bad(f"{name} must be one of {', '.join(allowed)}")
    return value


def _events(name: str, value: str) -> frozenset[str]:
    if value == "all":
        return frozenset(EVENTS)
    return frozenset(_one_of(name, each, (*EVENTS, "all")) for each in value.split(",") if each)


def _flag(name: str, value: str) -> bool:
    return _one_of(name, value, ("0", "1")) == "1"


_READ: Final = {
    "session_id": _session,
    "audio": lambda name, value: _one_of(name, value, ("binary", "base64", "none")),
    "codec": lambda name, value: _one_of(name, value, ("pcm16", "opus")),
    "rate": lambda name, value: int(_one_of(name, value, [str(rate) for rate in RATES])),
    "events": _events,
    "greet": _flag,
    "language": lambda _, value: value,
    "marks": _flag,
}
