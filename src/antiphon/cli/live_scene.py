"""One call as lines: what is finished stays on the screen, what goes on right now is one line that moves.

Pure but for what it prints: entries and times go in. A call is read by the same fold as ``antiphon show`` uses.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.state import Floor
from antiphon.observe.drafts import noted
from antiphon.observe.projections import Reader
from antiphon.observe.render import clean, clock, print_waterfall, spoken_text
from antiphon.observe.views import Heard, TurnView

BADGES = {
    Floor.IDLE: "black on white",
    Floor.LISTENING: "black on cyan",
    Floor.THINKING: "black on yellow",
    Floor.SPEAKING: "black on green",
    Floor.INTERRUPT: "white on red",
}
_BADGE_CELLS = max(len(state) for state in Floor) + 2
_WHO = {"caller": "bold cyan", "agent": "bold green", "": "dim"}
_PREFIX_CELLS = 8 + 1 + _BADGE_CELLS + 1 + 7

PARTIALS_MS = 400
"""Without a line that moves, partial transcripts are lines: no more than one in this time."""

CHARS_PER_MS = 0.015
"""How fast a voice speaks until one of its segments was heard whole: 165 words a minute, as espeak does."""

LAST_WORDS = 5


class Scene:
    """``moving``: partial transcripts belong to the line that moves (``status``) instead of being printed."""

    def __init__(self, console: Console, *, moving: bool) -> None:
        self._console = console
        self._moving = moving
        self._reader = Reader()
        self._at = 0
        self._unsaid: int | None = None
        """A turn whose question is not printed yet: it waits for its intent."""
        self._measured: set[int] = set()
        self._printed: set[tuple[int, int]] = set()
        self._partial = ""
        self._partial_at = -PARTIALS_MS
        self._paused_at: int | None = None
        self._voice: tuple[int, int, int] | None = None
        """The segment that is being heard: turn, number, when it would have begun had it never been paused."""
        self._chars_per_ms = CHARS_PER_MS

    @property
    def is_over(self) -> bool:
        return self._reader.ended not in ("", "detached")

    @property
    def floor(self) -> Floor:
        return self._reader.session.state.floor

    def read(self, entry: ev.Entry, commands: tuple[cmd.AnyCommand, ...]) -> None:
        """Takes the next entry and prints what it finishes."""
        self._at = entry.at
        self._reader.read(entry)
        self._line_event(entry.event)
        self._caller(entry.event)
        for command in commands:
            self._decided(command)
        self._agent(entry.event)

    # -- the line and the caller ------------------------------------------------------------------

    def _line_event(self, event: ev.AnyEvent) -> None:
        match event:
            case ev.SessionStarted():
                self._note(f"-- call {event.session} by {event.transport}, {event.language}")
            case ev.LineDropped(code=code):
                self._note(f"-- the line is lost: {code}")
            case ev.LineAttached():
                self._note("-- the caller is back")
            case ev.CallerHungUp():
                self._note("-- the caller hangs up")
            case ev.SessionClosed(reason=reason):
                self._note(f"-- closed: {reason}")

    def _caller(self, event: ev.AnyEvent) -> None:
        match event:
            case ev.SpeechStarted():
                self._partial = ""
            case ev.TranscriptPartial(text=text) if text != self._partial:
                self._partial = text
                if not self._moving and self._at - self._partial_at >= PARTIALS_MS:
                    self._partial_at = self._at
                    self._print("caller", Text(f"{clean(text)} ...", style="dim"))
            case ev.TranscriptFinal(text=text) if not text.strip():
                self._note("-- nothing was understood")
            case ev.TranscriptionFailed(code=code):
                self._print("", Text(f"!! stt failed: {clean(code)}", style="red"))
            case ev.DigitPressed(digit=digit):
                self._print("caller", Text(f"presses {clean(digit)}"))

    def _question(self) -> None:
        """What the caller asked, once: with its intent if that came in time."""
        turn = self._reader.turn(self._unsaid) if self._unsaid is not None else None
        self._unsaid = None
        if turn is None or not turn.question or turn.input == "digits":
            return
        partials = sum(speech.partials for speech in turn.speech)
        notes = [f"{partials} partial{'s' if partials != 1 else ''}"] if partials else []
        if turn.intent:
            notes.append(f"intent {clean(turn.intent)} {turn.intent_confidence:.2f}")
        said = Text(clean(turn.question), style="bold")
        if notes:
            said.append(f"  ({', '.join(notes)})", style="not bold dim")
        self._print("caller", said)
        self._partial = ""

    # -- decisions --------------------------------------------------------------------------------

    def _decided(self, command: cmd.AnyCommand) -> None:
        match command:
            case cmd.Classify(turn=turn):
                self._unsaid = turn
            case cmd.StartReply() | cmd.Say():
                self._question()
            case cmd.PausePlayout():
                self._paused_at = self._at
                self._note("-- the caller makes a sound: playback is paused")
            case cmd.ResumePlayout(turn=turn):
                self._resumed(turn)
            case cmd.HangUp():
                self._note("-- the agent hangs up")
            case cmd.TransferCall(target=target):
                self._note(f"-- the call is handed to {target}")

    def _resumed(self, number: int) -> None:
        since = self._at if self._paused_at is None else self._paused_at
        self._paused_at = None
        if self._voice is not None:
            turn, segment, began = self._voice
            self._voice = (turn, segment, began + self._at - since)
        view = self._reader.turn(number)
        text = view.overlaps[-1].text.strip() if view is not None and view.overlaps else ""
        what = f'backchannel "{clean(text)}"' if text else "a noise"
        self._note(f"-- {what} did not interrupt: the agent goes on after {(self._at - since) / 1000:.1f} s", "yellow")

    # -- the agent --------------------------------------------------------------------------------

    def _agent(self, event: ev.AnyEvent) -> None:
        match event:
            case ev.SegmentStarted(turn=turn, segment=segment):
                self._question()
                self._voice = (turn, segment, self._at)
                self._latency(turn)
                if not self._moving:
                    self._segments(turn, "started", "heard")
            case ev.SegmentPlayed(turn=turn, segment=segment):
                self._learn_speed(turn, segment)
                self._segments(turn)
            case ev.PlayoutFinished(turn=turn):
                self._segments(turn)
                self._end_of_turn(turn)
            case ev.PlayoutStopped(turn=turn):
                self._segments(turn)
                self._cut(turn)
                self._end_of_turn(turn)
            case ev.PlayoutStarved():
                self._note("-- the line ran dry: the reply is slower than its voice")
            case ev.LanguageSwitched() | ev.StageRerouted():
                self._note(f"-- {noted(event)}")
            case ev.StageFailed():
                who = f" ({clean(event.provider)})" if event.provider else ""
                self._print("", Text(f"!! {clean(event.stage)} failed: {clean(event.code)}{who}", style="red"))

    def _latency(self, number: int) -> None:
        """Known as soon as the first sample is out, so it is shown while the agent still speaks."""
        view = self._reader.turn(number)
        if number in self._measured or view is None or view.latency is None or view.input == "none":
            return
        self._measured.add(number)
        print_waterfall(self._console, view.latency)

    def _learn_speed(self, turn: int, segment: int) -> None:
        view = self._reader.turn(turn)
        if view is None or self._voice is None or self._voice[:2] != (turn, segment) or self._paused_at is not None:
            return
        text = next((part.text for part in view.segments if part.segment == segment), "")
        took = self._at - self._voice[2]
        if len(text) >= 20 and took >= 500:
            self._chars_per_ms = len(text) / took

    def _segments(self, number: int, *when: Heard) -> None:
        """Prints the segments whose end is known, as far as they were heard; each once.

        Where nothing moves they are printed when they begin: what is being said is not shown otherwise.
        """
        view = self._reader.turn(number)
        for part in view.segments if view is not None else ():
            key = (number, part.segment)
            if part.heard in (when or ("heard", "partly")) and key not in self._printed:
                self._printed.add(key)
                said = Text(clean(part.text)) if part.heard == "started" else spoken_text(part)
                if part.kind != "reply":
                    said.append(f"  ({clean(part.kind)})", style="dim")
                self._print("agent", said, at=part.at_ms)

    def _cut(self, number: int) -> None:
        view = self._reader.turn(number)
        self._voice = self._paused_at = None
        if view is None or not view.interrupted:
            return
        by = f' by "{clean(view.overlaps[-1].text)}"' if view.overlaps and view.overlaps[-1].text else ""
        heard = heard_of(view)
        words = heard.split()
        last = f"{'... ' if len(words) > LAST_WORDS else ''}{' '.join(words[-LAST_WORDS:])}"
        after = f'after "{last}"' if heard else "before a word of it was heard"
        self._note(f"-- interrupted {clean(after)}{by}", "red")

    def _end_of_turn(self, number: int) -> None:
        view = self._reader.turn(number)
        self._voice = None
        if view is not None and view.sources:
            self._note(f"-- answered from {', '.join(view.sources)}", "green")
        self._console.print()

    # -- printing ---------------------------------------------------------------------------------

    def _note(self, text: str, style: str = "dim") -> None:
        self._print("", Text(clean(text), style=style))

    def _print(self, who: str, what: Text, *, at: int | None = None) -> None:
        width = max(20, self._console.width - _PREFIX_CELLS)
        for row, part in enumerate(what.wrap(self._console, width)):
            part.rstrip()
            head = self._head(who, self._at if at is None else at) if row == 0 else Text(" " * _PREFIX_CELLS)
            self._console.print(head + part, no_wrap=True, overflow="ignore", crop=False)

    def _head(self, who: str, at: int) -> Text:
        return Text.assemble(
            (f"{clock(at):>8} ", "dim"),
            (f" {self.floor:<{_BADGE_CELLS - 1}}", BADGES[self.floor]),
            (f" {who:<7}", _WHO[who]),
        )

    # -- the line that moves ----------------------------------------------------------------------

    def status(self, now_ms: int) -> Text:
        """What goes on at ``now_ms`` (journal time), on one line of the console."""
        who, what = self._present(now_ms)
        line = self._head(who, max(now_ms, self._at)) + what
        line.no_wrap = True
        line.truncate(self._console.width - 1, overflow="ellipsis")
        return line

    def _present(self, now_ms: int) -> tuple[str, Text]:
        if self.floor in (Floor.SPEAKING, Floor.INTERRUPT) and self._voice is not None:
            spoken = self._spoken(now_ms)
            if self.floor is Floor.INTERRUPT:
                return "caller", Text.assemble(f"{clean(self._partial)} ... ", ("paused: ", "red"), spoken)
            return "agent", spoken
        if self.floor is Floor.THINKING:
            return "agent", Text("is about to answer ...", style="dim")
        if self.floor is Floor.LISTENING:
            return "caller", Text(f"{clean(self._partial)} ..." if self._partial else "...")
        return "", Text("")

    def _spoken(self, now_ms: int) -> Text:
        """The segment with its heard part bright. How far it is is an estimate: the line tells only of its end."""
        turn, number, began = self._voice or (0, 0, 0)
        view = self._reader.turn(turn)
        text = clean(next((part.text for part in view.segments if part.segment == number), "")) if view else ""
        until = now_ms if self._paused_at is None else self._paused_at
        heard = min(len(text), max(0, int((until - began) * self._chars_per_ms)))
        # The place that is being spoken stays in sight on a narrow line.
        room = max(20, self._console.width - _PREFIX_CELLS - 2)
        first = max(0, min(heard - room // 2, len(text) - room))
        return Text.assemble((text[first:heard], "bold"), (text[heard:], "dim"))


def heard_of(turn: TurnView) -> str:
    """What the caller heard of a turn's speech."""
    parts = (part.text[: part.heard_chars].strip() for part in turn.segments)
    return " ".join(part for part in parts if part)
