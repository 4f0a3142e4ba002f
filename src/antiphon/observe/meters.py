"""What a conversation adds to the metrics: a fold over its entries, while they come. Pure.

Everything about a turn is counted once the turn is over, from the draft whose view ``antiphon show`` prints, so both
always agree; the division of its time is that of ``latency``. A session that ends without its last entry (its process
died, another one took it over) takes what was not over with it.

``caller_silence_seconds_total`` is the time in which the floor was THINKING: it is the agent's turn, the line is there,
and the caller hears nothing; a caller who makes a sound meanwhile does not wait in silence. The waits that make sure
that the caller is done are not in it: then the floor is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.session import Session
from antiphon.kernel.state import Floor
from antiphon.observe.drafts import TurnDraft
from antiphon.observe.projections import Turns
from antiphon.observe.tallies import Metric

SECONDS: Final = (
    *(0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0),
)
"""Buckets from 5 ms to 5 s, finest where answers are to be: 50, 75, 100 ms for a stage, 0.5 s in a browser, 2 s on the
phone (B26 to B30, X7)."""
STRETCHES: Final = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Buckets of silences; people take up to about a second for a thinking pause."""

METRICS: Final = (
    Metric("sessions_total", "counter", "Sessions begun.", ("transport",)),
    Metric("sessions_resumed_total", "counter", "Lines that took a session on again.", ("transport",)),
    Metric("sessions_ended_total", "counter", "Sessions closed; expired: nobody came back in time.", ("reason",)),
    Metric("lines_dropped_total", "counter", "Lines that were gone without a hang-up.", ("code",)),
    Metric("turns_total", "counter", "Turns of callers that are over.", ("outcome",)),
    Metric(
        "turn_first_audio_seconds",
        "histogram",
        "From the end of the caller's input to the first sample of anything on the line.",
        ("transport", "language"),
        SECONDS,
    ),
    Metric(
        "turn_answer_seconds",
        "histogram",
        "From the end of the caller's input to the first sample that is no filler.",
        ("transport", "language"),
        SECONDS,
    ),
    Metric(
        "stage_seconds",
        "histogram",
        "Where the time to the first sound went: the parts of a turn, which add up to turn_first_audio_seconds.",
        ("stage", "provider"),
        SECONDS,
    ),
    Metric(
        "understanding_seconds",
        "histogram",
        "Intent and retrieval, side by side: from the turn's confirmation to what was found.",
        ("stage", "provider"),
        SECONDS,
    ),
    Metric("understanding_late_total", "counter", "Intents and passages that were left behind.", ("stage",)),
    Metric("replies_total", "counter", "Attempts at an answer, by the rung of the ladder.", ("tier",)),
    Metric("barge_ins_total", "counter", "Sounds of a caller that took the floor from the agent."),
    Metric("backchannels_total", "counter", "Words of a caller that did not take the floor."),
    Metric("false_interruptions_total", "counter", "Sounds without words that paused the agent."),
    Metric("starvations_total", "counter", "Times that a reply ran dry before it was complete."),
    Metric("fallbacks_total", "counter", "Another provider was asked instead.", ("stage", "from", "to", "why")),
    Metric("retries_total", "counter", "The same provider was asked once more.", ("stage", "provider", "why")),
    Metric("errors_total", "counter", "Stages that failed.", ("stage", "code")),
    Metric("speculations_total", "counter", "Answers begun ahead: adopted or dropped.", ("outcome",)),
    Metric("speculation_dropped_characters_total", "counter", "What models wrote for nothing."),
    Metric("caller_silence_seconds_total", "counter", "Time in which callers waited and nobody spoke."),
    Metric("caller_silence_stretch_seconds", "histogram", "Each such silence by its length.", buckets=STRETCHES),
    Metric("journal_entries_total", "counter", "Entries decided on."),
)
"""Names without their prefix."""

_LIVE_TURNS = 3
"""A turn whose end is never told (its line broke in mid-word), or of which a sound is in doubt, is counted when that
many newer ones have begun, or at the session's end."""

OURS: Final = "line.hung_up"
"""How a line ends that we hung up."""

_OVERLAPS: Final = {
    "barge_in": "barge_ins_total",
    "backchannel": "backchannels_total",
    "noise": "false_interruptions_total",
}

Add = Callable[[str, tuple[str, ...], float], None]


class Meter:
    """One session's part. ``note`` is owed every entry, right after ``session`` has received it.

    ``first_stt`` is the recogniser that is asked first: the journal names the one that heard and why it was not that.
    """

    def __init__(self, session: Session, add: Add, *, first_stt: str = "") -> None:
        self.session = session
        self._add = add
        self._first_stt = first_stt
        self._turns = Turns(session)
        self._thinking_since: int | None = None
        self._asked: dict[tuple[str, int], int] = {}
        self._providers: dict[tuple[str, int], str] = {}

    def note(self, entry: ev.Entry, commands: Sequence[cmd.AnyCommand]) -> None:
        event, at = entry.event, entry.at
        self._add("journal_entries_total", (), 1)
        if self.session.stale:
            self._late(event)
            return
        self._turns.note(entry, commands)
        for command in commands:
            match command:
                case cmd.Classify(turn=turn):
                    self._asked["intent", turn] = at
                case cmd.Retrieve(turn=turn):
                    self._asked["retrieval", turn] = at
                case cmd.StartReply(tier=tier):
                    self._add("replies_total", (tier,), 1)
        count = _COUNTED.get(type(event))
        if count is not None:
            count(self, event, at)
        if (self.session.state.floor is Floor.THINKING) is (self._thinking_since is None):
            self._silence(at)
        while len(self._turns.turns) > _LIVE_TURNS:
            self._over(min(self._turns.turns))
        # What a journal's reader keeps for its end is nothing to a meter.
        self._turns.line.clear()
        self._turns.ahead.clear()

    def _silence(self, at: int) -> None:
        """It begins or ends."""
        if self._thinking_since is None:
            self._thinking_since = at
            return
        seconds = (at - self._thinking_since) / 1000
        self._thinking_since = None
        if seconds:
            self._add("caller_silence_seconds_total", (), seconds)
            self._add("caller_silence_stretch_seconds", (), seconds)

    # -- single facts ------------------------------------------------------------------------------

    def _started(self, event: ev.SessionStarted, _: int) -> None:
        self._add("sessions_total", (event.transport,), 1)

    def _resumed(self, event: ev.LineAttached, _: int) -> None:
        self._add("sessions_resumed_total", (event.transport,), 1)

    def _dropped(self, event: ev.LineDropped, _: int) -> None:
        if event.code != OURS:
            self._add("lines_dropped_total", (event.code,), 1)

    def _failed(self, event: ev.StageFailed | ev.TranscriptionFailed, _: int) -> None:
        self._add("errors_total", (getattr(event, "stage", "stt"), event.code), 1)

    def _starved(self, _event: ev.PlayoutStarved, _: int) -> None:
        self._add("starvations_total", (), 1)

    def _begun(self, event: ev.ReplyBegun, _: int) -> None:
        self._providers.setdefault(("first_text", event.turn), event.provider)

    def _synthesized(self, event: ev.SegmentSynthesized, _: int) -> None:
        self._providers.setdefault(("synthesis", event.turn), event.provider)

    def _ended(self, event: ev.PlayoutFinished | ev.PlayoutStopped, _: int) -> None:
        draft, sound = self._turns.turns.get(event.turn), self._turns.overlap
        # A sound that nothing was heard in yet: whether it was a noise or a word is known when its final comes.
        if draft is None or sound is None or sound.text or sound.took_floor or sound not in draft.overlaps:
            self._over(event.turn)

    def _intent(self, event: ev.IntentReady, at: int) -> None:
        self._understood("intent", event, at)

    def _passages(self, event: ev.PassagesReady, at: int) -> None:
        self._understood("retrieval", event, at)

    def _heard(self, event: ev.TranscriptFinal, _: int) -> None:
        if event.because:
            self._add("fallbacks_total", ("stt", self._first_stt, event.provider, event.because), 1)

    def _rerouted(self, event: ev.StageRerouted, _: int) -> None:
        if event.to == event.provider:
            self._add("retries_total", (event.stage, event.provider, event.code), 1)
        else:
            self._add("fallbacks_total", (event.stage, event.provider, event.to, event.code), 1)

    def _speculated(self, event: ev.SpeculationEnded, _: int) -> None:
        self._add("speculations_total", (event.outcome,), 1)
        if event.outcome == "dropped":
            self._add("speculation_dropped_characters_total", (), event.chars)

    def _understood(self, stage: str, event: ev.IntentReady | ev.PassagesReady, at: int) -> None:
        asked = self._asked.pop((stage, event.turn), None)
        if asked is not None:
            self._add("understanding_seconds", (stage, event.provider), (at - asked) / 1000)

    def _late(self, event: ev.AnyEvent) -> None:
        """What was left behind comes at last, and is stale."""
        stage = {ev.IntentReady: "intent", ev.PassagesReady: "retrieval"}.get(type(event), "")
        if stage and self._asked.pop((stage, getattr(event, "turn", 0)), None) is not None:
            self._add("understanding_late_total", (stage,), 1)

    def _closed(self, event: ev.SessionClosed, _: int) -> None:
        for number in sorted(self._turns.turns):
            self._over(number)
        self._add("sessions_ended_total", (event.reason,), 1)

    # -- a turn that is over -----------------------------------------------------------------------

    def _over(self, number: int) -> None:
        draft = self._turns.turns.pop(number, None)
        if draft is None:
            return
        for overlap in draft.overlaps:
            self._add(_OVERLAPS[overlap.view().kind], (), 1)
        if draft.input != "none":
            self._add("turns_total", (draft.outcome(),), 1)
            self._time(draft)
        for known in (self._asked, self._providers):
            for key in [key for key in known if key[1] == number or key[1] < number - _LIVE_TURNS]:
                del known[key]

    def _time(self, turn: TurnDraft) -> None:
        latency = turn.latency()
        if latency is None:
            return
        where = (self.session.state.transport, turn.language)
        self._add("turn_first_audio_seconds", where, latency.total_ms / 1000)
        if latency.answer_ms is not None:
            self._add("turn_answer_seconds", where, latency.answer_ms / 1000)
        model = self._providers.get(("first_text", turn.turn), "")
        providers = {
            "stt": turn.speech[-1].provider if turn.speech else "",
            "first_text": model,
            "first_segment": model,
            "synthesis": self._providers.get(("synthesis", turn.turn), ""),
        }
        for part in latency.parts:
            self._add("stage_seconds", (part.name, providers.get(part.name, "")), part.ms / 1000)


_COUNTED: Final[dict[type, Callable[[Meter, Any, int], None]]] = {
    ev.SessionStarted: Meter._started,
    ev.LineAttached: Meter._resumed,
    ev.LineDropped: Meter._dropped,
    ev.SessionClosed: Meter._closed,
    ev.TranscriptFinal: Meter._heard,
    ev.TranscriptionFailed: Meter._failed,
    ev.StageFailed: Meter._failed,
    ev.StageRerouted: Meter._rerouted,
    ev.SpeculationEnded: Meter._speculated,
    ev.IntentReady: Meter._intent,
    ev.PassagesReady: Meter._passages,
    ev.ReplyBegun: Meter._begun,
    ev.SegmentSynthesized: Meter._synthesized,
    ev.PlayoutStarved: Meter._starved,
    ev.PlayoutFinished: Meter._ended,
    ev.PlayoutStopped: Meter._ended,
}
