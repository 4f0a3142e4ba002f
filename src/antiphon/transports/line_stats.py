"""Counters of one line."""

from __future__ import annotations

import msgspec


class LineStats(msgspec.Struct):
    """What went over one line. ``dropped`` counts by stable code what was not used; ``lost`` are messages whose numbers
    never came."""

    messages: int = 0
    audio_bytes: int = 0
    sent_messages: int = 0
    sent_audio_bytes: int = 0
    lost: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)

    def drop(self, code: str, count: int = 1) -> None:
        self.dropped[code] = self.dropped.get(code, 0) + count
