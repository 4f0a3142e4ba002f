"""Plays a session by hand: facts at times in, the floor and the orders in short words out.

A row is ``(ms since the row before, event or None, floor afterwards, orders)``. Deadlines that fall due
on the way are reported to the kernel at their own time, as the runtime does; their orders count, too.
"""

from __future__ import annotations

from collections.abc import Iterable

from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session
from antiphon.kernel.state import State

POLICY = Policy(
    endpoint_ms=400,
    endpoint_unfinished_ms=900,
    utterance_ms=20_000,
    digits_ms=1_800,
    final_ms=1_200,
    final_expected_ms=300,
    understand_ms=300,
    filler_ms=900,
    refill_ms=500,
    fillers=8,
    reply_ms=4_000,
    stall_ms=1_100,
    phrase_ms=1_500,
    interrupt_ms=700,
    interrupt_speech_ms=1_500,
    silence_ms=9_000,
    silence_prompts=2,
    blank_speech_ms=350,
    blank_prompts=2,
    failed_turns=2,
    closing_ms=3_000,
    ttl_ms=3_600_000,
    max_failures=3,
    speculate=False,
    speculations_in_speech=0,
    backchannels={"en-IN": ("mm-hm", "ok", "got it"), "te-IN": ("avunu",)},
    unfinished={"en-IN": ("and", "because")},
)
"""The numbers the tests are written for, whatever the defaults become."""

Row = tuple[int, "ev.AnyEvent | None", str, Iterable[str]]


def started(policy: Policy = POLICY, language: str = "en-IN") -> ev.SessionStarted:
    return ev.SessionStarted("s1", "test", language, encode_policy(policy))


def brief(command: cmd.AnyCommand) -> str:
    """An order in a few words: "Say 1 greeting", "StartReply 2 full", "HangUp agent"."""
    name = type(command).__name__
    match command:
        case cmd.Say(turn=turn, phrase=phrase, last=last):
            return f"{name} {turn} {phrase}" + ("" if last else " ...")
        case cmd.StartReply(turn=turn, tier=tier):
            return f"{name} {turn} {tier}"
        case cmd.Repeat(turn=turn, texts=texts):
            return f"{name} {turn} {' | '.join(texts)}"
        case cmd.FinishUtterance(utterance=utterance):
            return f"{name} {utterance}"
        case cmd.RunEffect(key=key):
            return f"{name} {key}"
        case cmd.TransferCall(target=target):
            return f"{name} {target}"
        case cmd.HangUp(reason=reason) | cmd.CloseSession(reason=reason):
            return f"{name} {reason}"
        case _:
            return f"{name} {getattr(command, 'turn', '')}".strip()


class Play:
    """One session on a clock of its own. ``orders`` are all commands so far, ``entries`` the journal."""

    def __init__(self, policy: Policy = POLICY, *, language: str = "en-IN", begin: bool = True) -> None:
        self.session = Session()
        self.now = 0
        self.entries: list[ev.Entry] = []
        self.orders: list[cmd.AnyCommand] = []
        self.policy = policy
        if begin:
            self.tell(started(policy, language))

    @property
    def state(self) -> State:
        return self.session.state

    @property
    def floor(self) -> str:
        return str(self.session.floor)

    @property
    def history(self) -> list[str]:
        return [f"{message.role}: {message.content}" for message in self.state.history]

    def tell(self, event: ev.AnyEvent) -> list[str]:
        entry, commands = self.session.receive(event, self.now)
        assert self.session.last_failure is None, self.session.last_failure
        self.entries.append(entry)
        self.orders.extend(commands)
        return [brief(command) for command in commands]

    def wait(self, ms: int) -> list[str]:
        """Time passes; deadlines are told when they are due."""
        until, orders = self.now + ms, []
        while (due := self.session.next_deadline()) is not None and due[1] <= until:
            self.now = max(self.now, due[1])
            orders += self.tell(ev.DeadlineReached(due[0]))
        self.now = until
        return orders

    def rows(self, *rows: Row) -> None:
        for number, (ms, event, floor, orders) in enumerate(rows, 1):
            found = self.wait(ms)
            if event is not None:
                found += self.tell(event)
            where = f"row {number}, {type(event).__name__ if event else 'time'} at {self.now} ms"
            assert found == list(orders), where
            assert self.floor == floor, where

    # -- common stretches of a call ---------------------------------------------------------------

    def heard(self, *texts: str, kind: str = "reply", ms: int = 1_000) -> None:
        """The live reply speaks these segments, all of them are heard, and it ends."""
        reply = self.state.reply
        assert reply is not None
        turn, attempt, first = reply.turn, reply.attempt, len(reply.segments)
        for number, text in enumerate(texts, first):
            self.tell(ev.SegmentReady(turn, attempt, number, text, kind))
            self.tell(ev.SegmentStarted(turn, number))
            self.wait(ms)
            self.tell(ev.SegmentPlayed(turn, number))
        self.tell(ev.ReplyGenerated(turn, attempt, first + len(texts)))
        self.tell(ev.PlayoutFinished(turn))

    def spoken(self, text: str, *, ms: int = 800, hangover: int = 200) -> None:
        """The caller says something; their silence begins ``hangover`` ms before this returns."""
        self.tell(ev.SpeechStarted())
        self.wait(ms // 2)
        if text:
            self.tell(ev.TranscriptPartial(self.state.utterance, text))
        self.wait(ms - ms // 2 + hangover)
        self.tell(ev.SpeechStopped(0, hangover))

    def final(self, text: str) -> list[str]:
        return self.tell(ev.TranscriptFinal(self.state.awaited, text))

    def asked(self, question: str = "what are the fees") -> int:
        """The caller asks; the turn is confirmed. Returns its number."""
        self.spoken(question)
        self.wait(self.policy.endpoint_ms - 200)
        self.final(question)
        assert self.floor == "THINKING"
        return self.state.turn

    def understood(self) -> None:
        turn = self.state.turn
        self.tell(ev.IntentReady(turn, "question", 0.9))
        self.tell(ev.PassagesReady(turn))

    def answering(self, *texts: str) -> int:
        """A question, and its answer's segments decided on; the first of them is heard now."""
        turn = self.asked()
        self.understood()
        for number, text in enumerate(texts or ("The fee is two lakh rupees a year.",)):
            self.tell(ev.SegmentReady(turn, 1, number, text))
        self.tell(ev.SegmentStarted(turn, 0))
        assert self.floor == "SPEAKING"
        return turn


def greeted(policy: Policy = POLICY, *, language: str = "en-IN") -> Play:
    """A call whose greeting was heard: the floor is the caller's, turn 1 is over."""
    play = Play(policy, language=language)
    play.heard("Hello there.", kind="greeting")
    assert play.floor == "LISTENING"
    return play
