"""What a peer may do on a phone line before the line is closed: credits that a sweep fills again, and time limits.

Pure: the clock is an argument. Nothing here reads it per message, which is why credits are filled by the sweep.
"""

from __future__ import annotations

from antiphon.transports.twilio_settings import LineLimits

BYTES_PER_MS = 8
MESSAGE_COST = 5 * BYTES_PER_MS
"""Every message costs 5 ms of audio on top of what it carries, so that a flood of empty ones is one too."""

Verdict = tuple[int, str]
"""A WebSocket close code and the stable code of the reason."""


class LineGuard:
    """One line's credits. Audio is counted in bytes of mu-law (8 a millisecond)."""

    __slots__ = (
        "_bad_credit",
        "_choked_since",
        "_credit",
        "_flooded",
        "_limits",
        "_messages",
        "_opened_at",
        "_seen_at",
        "_swept_at",
    )

    def __init__(self, limits: LineLimits, now: float) -> None:
        self._limits = limits
        self._credit: float = limits.burst_ms * BYTES_PER_MS
        self._flooded = 0
        self._bad_credit: float = limits.bad_messages
        self._messages = 0
        self._opened_at = self._seen_at = self._swept_at = now
        self._choked_since = 0.0

    def afford(self, audio_bytes: int) -> bool:
        """Takes one message's cost from the credit; ``False``: there is none left, drop the message."""
        credit = self._credit - audio_bytes - MESSAGE_COST
        if credit < 0:
            self._flooded += audio_bytes + MESSAGE_COST
            return False
        self._credit = credit
        return True

    @property
    def credit(self) -> int:
        """What messages may cost until the next sweep, in whole bytes."""
        return int(self._credit)

    def spend(self, messages: int, audio_bytes: int) -> None:
        """Books messages that were let through within ``credit``."""
        self._credit -= audio_bytes + messages * MESSAGE_COST

    def flood(self) -> Verdict | None:
        """To be asked after ``afford`` refused."""
        return (1008, "line.flood") if self._flooded > self._limits.flood_ms * BYTES_PER_MS else None

    def bad(self) -> Verdict | None:
        """Counts an unusable message."""
        self._bad_credit -= 1
        return (1008, "line.bad_frames") if self._bad_credit < 0 else None

    def choke(self, now: float) -> None:
        """The peer reads too slowly from now on (0: it reads again)."""
        self._choked_since = now

    def sweep(self, now: float, *, started: bool, messages: int) -> Verdict | None:
        """Fills the credits and checks what is a matter of time. ``messages``: how many ever came."""
        limits = self._limits
        elapsed, self._swept_at = now - self._swept_at, now
        full = limits.burst_ms * BYTES_PER_MS
        self._credit = min(full, self._credit + elapsed * 1000 * BYTES_PER_MS * limits.realtime_factor)
        self._bad_credit = min(limits.bad_messages, self._bad_credit + elapsed * limits.bad_messages_per_s)
        if self._credit > full / 2:
            self._flooded = 0
        if messages != self._messages:
            self._messages, self._seen_at = messages, now
        if not started and now - self._opened_at >= limits.start_timeout_s:
            return 1008, "line.start_timeout"
        if now - self._seen_at >= limits.idle_timeout_s:
            return 1008, "line.idle"
        if self._choked_since and now - self._choked_since >= limits.stuck_timeout_s:
            return 1013, "line.slow_consumer"
        return None
