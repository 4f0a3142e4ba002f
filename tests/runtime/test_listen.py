"""The ear: what the transcriber gets to hear, and which utterance it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from antiphon.kernel import events as ev
from antiphon.media.codec import decode, encode
from antiphon.media.gate import WINDOW_MS, GateSettings
from antiphon.media.played import Played
from antiphon.runtime.listen import OVER_MS, PREROLL_MS, UNCHANGED_MS, Ear
from antiphon.runtime.ports import Heard

FRAME_MS = 20


class Stream:
    def __init__(self, on_heard: Callable[[Heard], None]) -> None:
        self.on_heard = on_heard
        self.fed = bytearray()
        self.feeds = 0
        self.finished: list[tuple[int, int]] = []
        """(utterance, bytes fed before)"""
        self.hints: list[str] = []
        self.closed = 0

    def feed(self, pcm: bytes) -> None:
        self.fed += pcm
        self.feeds += 1

    def finish(self, utterance: int) -> None:
        self.finished.append((utterance, len(self.fed)))

    def hint(self, language: str) -> None:
        self.hints.append(language)

    def close(self) -> None:
        self.closed += 1


class Room:
    """An ear with a gate that opens on one window and closes on one, moved by ``window``."""

    name = "stt"

    def __init__(
        self,
        *,
        codec: str = "mulaw",
        first: int = 1,
        rate: int = 8000,
        played: Played | None = None,
        hangover_ms: int = 0,
        ahead: bool = True,
        piece_ms: int = 0,
    ) -> None:
        self.piece_ms = piece_ms
        self.facts: list[ev.AnyEvent] = []
        self.pushed = bytearray()
        self.left = 0
        self.late_ms = 0.0
        """How much later than the windows told the present is."""
        self.windows = 0
        self.codec = codec
        self.rate = rate
        self.frames = 0
        self.ear = Ear(
            call_id="c1",
            codec=codec,
            sample_rate=rate,
            language="te-IN",
            first_utterance=first,
            activity=self,  # type: ignore[arg-type]
            transcriber=self,  # type: ignore[arg-type]
            gate=GateSettings(min_speech_ms=0, hangover_ms=hangover_ms),
            post=self.facts.append,
            played=played,
            ahead=ahead,
        )

    # the transcriber
    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> Stream:
        assert (sample_rate, language) == (self.rate, "te-IN")
        self.stream = Stream(on_heard)
        return self.stream

    # the voice activity detector
    def join(self, codec: str, on_window: Callable[[float], None], *, sample_rate: int, played: Played | None) -> Room:
        self.played = played
        assert (codec, sample_rate) == (self.codec, self.rate)
        self.on_window = on_window
        return self

    def window(self, probability: float) -> None:
        self.windows += 1
        self.on_window(probability)

    def ago_ms(self, position_ms: int) -> float:
        return self.windows * WINDOW_MS + self.late_ms - position_ms

    def push(self, audio: bytes) -> None:
        self.pushed += audio

    def recent(self, size: int) -> bytes:
        return bytes(self.pushed[-size:]) if size else b""

    def leave(self) -> None:
        self.left += 1

    def audio(self, ms: int) -> bytes:
        """So many milliseconds of frames, every one of them different; returns them decoded."""
        sent = b""
        for _ in range(ms // FRAME_MS):
            self.frames += 1
            frame = encode(self.codec, (self.frames * 37 % 8000).to_bytes(2, "little", signed=True) * (self.rate // 50))
            self.ear.on_audio(frame)
            sent += decode(self.codec, frame)
        return sent


def test_the_transcriber_hears_speech_and_a_little_before_it() -> None:
    room = Room()
    before = room.audio(3_000)
    assert not room.stream.fed
    room.window(0.9)
    assert room.facts == [ev.SpeechStarted(0)]
    preroll = 2 * 8 * PREROLL_MS
    assert bytes(room.stream.fed) == before[-preroll:]
    speech = room.audio(500)
    assert bytes(room.stream.fed) == before[-preroll:] + speech


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_a_wideband_line_is_heard_at_its_own_rate(rate: int) -> None:
    room = Room(codec="pcm16", rate=rate)
    before = room.audio(1_000)
    room.window(0.9)
    speech = room.audio(100)
    assert bytes(room.stream.fed) == before[-2 * rate * PREROLL_MS // 1000 :] + speech
    assert bytes(room.pushed) == before + speech


@pytest.mark.parametrize("codec", ["mulaw", "alaw", "pcm16"])
def test_less_than_the_preroll_is_given_whole(codec: str) -> None:
    room = Room(codec=codec)
    before = room.audio(100)
    room.window(0.9)
    assert bytes(room.stream.fed) == before


def test_over_the_agents_voice_it_begins_closer_to_the_callers() -> None:
    """What is before it is the agent's own, come back."""
    played = Played("mulaw", 8000)
    room = Room(played=played)
    assert room.played is played, "the detector is told what is played"
    before = room.audio(3_000)
    played.is_near = True
    room.window(0.9)
    assert bytes(room.stream.fed) == before[-2 * 8 * OVER_MS :]


def test_everything_goes_to_the_voice_activity_detector() -> None:
    room = Room()
    room.audio(1_000)
    room.window(0.9)
    room.audio(1_000)
    assert len(room.pushed) == 16_000


def test_it_goes_on_hearing_until_the_utterance_is_over() -> None:
    """The silence in which it is decided whether the caller is done belongs to the utterance."""
    room = Room()
    room.window(0.9)
    room.audio(200)
    room.window(0.1)
    assert room.facts[1:] == [ev.SpeechStopped(32, 32)]
    room.audio(100)
    room.ear.finish(1)
    heard = 2 * 8 * 300
    assert room.stream.finished == [(1, heard)]
    room.audio(5_000)
    assert len(room.stream.fed) == heard


def test_between_two_utterances_no_speech_is_given_twice_and_nothing_is_left_out() -> None:
    """A word may have begun before the gate opened, and before the utterance was over: the silence counts to both."""
    room = Room()

    def heard(probability: float) -> bytes:
        audio = room.audio(160)
        for _ in range(5):
            room.window(probability)
        return audio

    first = heard(0.9)
    pause = heard(0.1)
    room.ear.finish(1)
    more = room.audio(160)
    for _ in range(4):
        room.window(0.1)
    room.window(0.9)
    second = room.audio(200)
    assert bytes(room.stream.fed) == first + pause + pause + more + second


def test_an_utterance_finished_in_the_middle_of_speech_goes_on_as_the_next_one() -> None:
    room = Room()
    room.window(0.9)
    first = room.audio(400)
    room.ear.finish(1)
    second = room.audio(400)
    assert bytes(room.stream.fed) == first + second
    assert room.stream.finished == [(1, len(first))]


@pytest.mark.parametrize("codec", ["mulaw", "alaw", "pcm16"])
def test_a_transcriber_that_waits_for_more_gets_larger_pieces(codec: str) -> None:
    room = Room(codec=codec, piece_ms=60)
    before = room.audio(100)
    room.window(0.9)
    assert (bytes(room.stream.fed), room.stream.feeds) == (before, 1)
    first = room.audio(40)
    assert room.stream.feeds == 1
    second = room.audio(140)
    assert room.stream.feeds == 1 + 3
    room.ear.finish(1)
    assert bytes(room.stream.fed) == before + first + second
    assert room.stream.finished == [(1, len(before + first + second))]
    third = room.audio(20)
    room.ear.hint("hi-IN")
    assert bytes(room.stream.fed) == before + first + second + third, "said before another language is expected"


def test_what_is_over_without_more_audio_is_not_fed_again() -> None:
    room = Room(piece_ms=60)
    room.audio(20)
    room.window(0.9)
    room.audio(60)
    assert room.stream.feeds == 2
    room.ear.finish(1)
    assert room.stream.feeds == 2


def test_a_second_edge_while_it_feeds_feeds_no_preroll() -> None:
    room = Room()
    room.window(0.9)
    first = room.audio(200)
    room.window(0.1)
    pause = room.audio(100)
    room.window(0.9)
    assert bytes(room.stream.fed) == first + pause
    assert [type(fact).__name__ for fact in room.facts] == ["SpeechStarted", "SpeechStopped", "SpeechStarted"]


@pytest.mark.parametrize(
    ("late_ms", "told"), [(-500.0, 64), (0.0, 64), (0.9, 65), (22.998, 87), (23.4, 87), (100.0, 164), (900.0, 164)]
)
def test_the_end_of_speech_is_told_with_all_that_it_took_to_know_it(late_ms: float, told: int) -> None:
    """A frame, a batch and a thread come on top of the silent windows; what is out of all measure is not believed."""
    room = Room(hangover_ms=64)
    room.window(0.9)
    room.late_ms = late_ms
    room.window(0.1)
    room.window(0.1)
    assert room.facts[1:] == [ev.SpeechStopped(32, told)]


def partials(room: Room) -> list[tuple[str, bool]]:
    return [(fact.text, fact.again) for fact in room.facts if isinstance(fact, ev.TranscriptPartial)]


def test_the_last_words_are_told_again_in_the_first_silent_window() -> None:
    room = Room(hangover_ms=224)
    room.window(0.9)
    room.stream.on_heard(Heard(1, "what fees", language="te-IN", confidence=0.5))
    room.window(0.9)
    assert partials(room) == [("what fees", False)]
    for _ in range(3):
        room.window(0.1)
    assert room.facts[1:] == [
        ev.TranscriptPartial(1, "what fees", "te-IN", 0.5),
        ev.TranscriptPartial(1, "what fees", "te-IN", 0.5, again=True),
    ]


def test_words_that_come_in_the_silence_are_told_again_at_once() -> None:
    room = Room(hangover_ms=224)
    room.window(0.9)
    room.window(0.1)
    room.stream.on_heard(Heard(1, "what"))
    room.stream.on_heard(Heard(1, "what fees"))
    room.stream.on_heard(Heard(1, "what fees"))
    assert partials(room) == [
        ("what", False),
        ("what", True),
        ("what fees", False),
        ("what fees", True),
        ("what fees", False),
    ]


def test_on_a_line_that_never_falls_silent_words_that_stand_are_told_again() -> None:
    room = Room()
    room.window(0.9)
    room.stream.on_heard(Heard(1, "what"))
    for _ in range(UNCHANGED_MS // WINDOW_MS):
        room.window(0.9)
    room.stream.on_heard(Heard(1, "what fees"))
    room.stream.on_heard(Heard(1, "what fees"))
    for _ in range(UNCHANGED_MS // WINDOW_MS):
        room.window(0.9)
    assert partials(room)[2:] == [("what fees", False)]
    room.window(0.9)
    room.window(0.9)
    assert partials(room)[2:] == [("what fees", False), ("what fees", True)]


def test_nothing_is_told_again_when_nobody_answers_ahead_or_nothing_was_said_or_the_gate_is_closed() -> None:
    for room, text in ((Room(hangover_ms=224, ahead=False), "what"), (Room(hangover_ms=224), " ")):
        room.window(0.9)
        room.stream.on_heard(Heard(1, text))
        room.window(0.1)
        assert partials(room) == [(text, False)]
    room = Room()
    room.window(0.9)
    room.stream.on_heard(Heard(1, "what"))
    room.window(0.1)  # which closes this gate
    room.stream.on_heard(Heard(1, "what fees"))
    assert partials(room) == [("what", False), ("what fees", False)]


def test_words_of_an_utterance_that_is_over_are_not_told_again() -> None:
    room = Room(hangover_ms=224)
    room.window(0.9)
    room.stream.on_heard(Heard(1, "what"))
    room.ear.finish(1)
    room.window(0.1)
    assert partials(room) == [("what", False)]
    room.stream.on_heard(Heard(2, "what"))
    assert partials(room)[1:] == [("what", False), ("what", True)]


def test_what_it_hears_is_told_under_the_sessions_numbers() -> None:
    """A resumed session does not begin with utterance 1, the transcriber's stream does."""
    room = Room(first=8)
    room.stream.on_heard(Heard(1, "what", language="te-IN", confidence=0.5))
    room.ear.finish(8)
    room.stream.on_heard(Heard(1, "what fees", final=True, language="te-IN", confidence=0.7))
    room.ear.finish(9)
    room.stream.on_heard(Heard(2, "", error="stt.lost"))
    assert room.stream.finished == [(1, 0), (2, 0)]
    assert room.facts == [
        ev.TranscriptPartial(8, "what", "te-IN", 0.5),
        ev.TranscriptFinal(8, "what fees", "te-IN", 0.7, "stt"),
        ev.TranscriptionFailed(9, "stt.lost"),
    ]


def test_an_utterance_that_fails_while_it_is_spoken_is_settled_when_it_is_over() -> None:
    """Told at once, it would be dropped as stale, and the end of the turn would wait for a final that never comes."""
    room = Room(first=8)
    room.stream.on_heard(Heard(1, "what", language="te-IN"))
    room.stream.on_heard(Heard(1, "", error="stt.lost"))
    assert [type(fact) for fact in room.facts] == [ev.TranscriptPartial]
    room.ear.finish(8)
    room.ear.finish(9)
    assert room.facts[1:] == [ev.TranscriptionFailed(8, "stt.lost")]


def test_texts_are_bounded() -> None:
    room = Room()
    room.stream.on_heard(Heard(1, "x" * 10_000))
    room.stream.on_heard(Heard(1, "x" * 10_000, final=True))
    assert [len(fact.text) for fact in room.facts] == [ev.MAX_TEXT] * 2  # type: ignore[union-attr]


def test_a_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Room().stream.on_heard(Heard(1, "", error="stt.lost"))
    assert "the transcriber failed: stt.lost" in caplog.text


def test_hints_and_the_end_are_passed_on() -> None:
    room = Room()
    room.ear.hint("hi-IN")
    room.ear.close()
    assert (room.stream.hints, room.stream.closed, room.left) == (["hi-IN"], 1, 1)


def test_of_a_long_silence_the_transcriber_gets_the_preroll_alone() -> None:
    room = Room()
    frame = encode("mulaw", bytes(320))
    for _ in range(20_000):
        room.ear.on_audio(frame)
    room.window(0.9)
    assert len(room.stream.fed) == 2 * 8 * PREROLL_MS
