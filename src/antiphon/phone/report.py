"""What a call was like for the caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from antiphon.observe.latency import percentile


class PhoneEvent(msgspec.Struct, frozen=True):
    """Something that happened, for whoever watches. ``at_ms`` is media time since the stream began.

    ``kind``: ``connected``, ``agent_speaking``, ``agent_quiet``, ``caller_speaking``, ``caller_done``, ``backchannel``,
    ``digits``, ``no_reply``, ``hung_up``, ``closed``, ``turn`` (``turn`` is set: it is complete). The ``text`` of the
    first ``agent_speaking`` of a turn is its latency in ms.
    """

    kind: str
    at_ms: int
    text: str = ""
    turn: TurnReport | None = None


class TurnReport(msgspec.Struct, kw_only=True):
    """One line of the caller and what came back. Turn 0 is what the agent said first. Times are media time, ms.

    - ``latency_ms``: the caller's last voiced sample to the first audible sample of the reply. ``None``: no reply, or
      ``talked_over``: the agent was audible at that moment (it began too early, or did not stop).
    - ``stopped_ms``: only for a line that barged in: its first voiced sample to the agent's last audible one.
    - ``answered``: a reply was heard. Whether it was an answer cannot be told by ear; ``instead`` is set by whoever
      knows that it was none, and says what it was: a phrase's name (``apology``, ``still_there``) or ``unknown``.
    - ``interrupted``: the reply was cut off by the caller's next line.
    - ``reply_ms``: first to last audible sample. ``audio``: the reply as it was heard, PCM, 8000 Hz.
    - ``longest_gap_ms``: the longest silence within the reply.
    """

    index: int
    said: str = ""
    kind: str = "say"
    began_ms: int = 0
    ended_ms: int = 0
    latency_ms: float | None = None
    reply_began_ms: int | None = None
    reply_ms: int = 0
    longest_gap_ms: int = 0
    answered: bool = False
    talked_over: bool = False
    barged_in: bool = False
    interrupted: bool = False
    stopped_ms: float | None = None
    backchannels: tuple[str, ...] = ()
    audio: bytes = b""
    instead: str = ""


class CallReport(msgspec.Struct, kw_only=True):
    """A whole call. ``ended_by``: ``caller``, ``agent``, ``timeout`` or ``failed`` (``error`` says why).

    ``unsaid`` counts the lines that were left when the call ended. ``judged_by``: ``ear``, or ``journal`` if the
    agent's own record told answers from apologies.
    """

    call_id: str
    url: str
    turns: list[TurnReport] = []
    ended_by: str = ""
    close_code: int = 0
    close_reason: str = ""
    error: str = ""
    duration_ms: int = 0
    unsaid: int = 0
    judged_by: Literal["ear", "journal"] = "ear"
    marks: int = 0
    cleared_ms: list[float] = []
    """When the agent threw away what was not heard yet, which silences it at once."""
    late_ticks: int = 0
    """Times this client was over 20 ms late: above a few, its figures say more of the client than of the agent."""

    @property
    def clears(self) -> int:
        return len(self.cleared_ms)

    @property
    def silenced_ms(self) -> list[float]:
        """For each line that barged in: its first voiced sample to the agent's last, audible or not.

        A line that no ``clear`` followed within two seconds is left out: it silenced nobody.
        """
        found = []
        for turn in self.turns:
            after = [at - turn.began_ms for at in self.cleared_ms if 0 <= at - turn.began_ms < 2000]
            if turn.barged_in and after:
                found.append(after[0])
        return found

    @property
    def replies(self) -> list[TurnReport]:
        """The turns the caller began."""
        return [turn for turn in self.turns if turn.index]

    @property
    def answered(self) -> int:
        return sum(turn.answered for turn in self.replies)

    @property
    def due(self) -> int:
        """The turns that the caller opened or meant to open: the greeting is none of them."""
        return len(self.replies) + self.unsaid

    @property
    def all_answered(self) -> bool:
        """Also true of a call in which the caller had nothing to say."""
        return not self.error and self.answered == self.due

    @property
    def latencies(self) -> list[float]:
        """Of what was spoken, ms; keys have no end of speech."""
        return [t.latency_ms for t in self.replies if t.latency_ms is not None and t.kind != "digits"]

    def as_dict(self) -> dict[str, object]:
        """Plain data without the audio, for JSON."""
        plain: dict[str, object] = msgspec.to_builtins(self, builtin_types=(bytes,))
        for turn in plain["turns"]:  # type: ignore[attr-defined]
            del turn["audio"]
        plain["all_answered"] = self.all_answered
        plain["latency_ms"] = percentiles(self.latencies)
        return plain


def percentiles(values: Iterable[float], points: Sequence[int] = (50, 90, 99)) -> dict[str, float]:
    """Nearest-rank percentiles, as ``{"p50": ...}``, with ``max`` and ``count``; only ``count`` for no values."""
    ordered = sorted(values)
    found: dict[str, float] = {"count": len(ordered)}
    for point in points if ordered else ():
        found[f"p{point}"] = round(percentile(ordered, point / 100) or 0.0, 1)
    if ordered:
        found["max"] = round(ordered[-1], 1)
    return found
