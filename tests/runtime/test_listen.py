"""The ear: what the transcriber gets to hear, and which utterance it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from antiphon.kernel import events as ev
from antiphon.media.codec import decode, encode
from antiphon.media.gate import GateSettings
from antiphon.runtime.listen import PREROLL_MS, Ear
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

    def __init__(self, *, codec: str = "mulaw", first: int = 1) -> None:
        self.facts: list[ev.AnyEvent] = []
        self.pushed = bytearray()
        self.left = 0
        self.codec = codec
        self.frames = 0
        self.ear = Ear(
            call_id="c1",
            codec=codec,
            sample_rate=8000,
            language="te-IN",
            first_utterance=first,
            activity=self,  # type: ignore[arg-type]
            transcriber=self,  # type: ignore[arg-type]
            gate=GateSettings(min_speech_ms=0, hangover_ms=0),
            post=self.facts.append,
        )

    # the transcriber
    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> Stream:
        assert (sample_rate, language) == (8000, "te-IN")
        self.stream = Stream(on_heard)
        return self.stream

    # the voice activity detector
    def join(self, codec: str, on_window: Callable[[float], None]) -> Room:
        assert codec == self.codec
        self.window = on_window
        return self

    def push(self, audio: bytes) -> None:
        self.pushed += audio

    def leave(self) -> None:
        self.left += 1

    def audio(self, ms: int) -> bytes:
        """So many milliseconds of frames, every one of them different; returns them decoded."""
        sent = b""
        for _ in range(ms // FRAME_MS):
            self.frames += 1
            frame = encode(self.codec, (self.frames * 37 % 8000).to_bytes(2, "little", signed=True) * 160)
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


@pytest.mark.parametrize("codec", ["mulaw", "alaw", "pcm16"])
def test_less_than_the_preroll_is_given_whole(codec: str) -> None:
    room = Room(codec=codec)
    before = room.audio(100)
    room.window(0.9)
    assert bytes(room.stream.fed) == before


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


def test_no_audio_is_given_twice_or_left_out_between_two_utterances() -> None:
    room = Room()
    room.window(0.9)
    first = room.audio(200)
    room.window(0.1)
    room.ear.finish(1)
    pause = room.audio(100)
    room.window(0.9)
    second = room.audio(200)
    assert bytes(room.stream.fed) == first + pause + second


def test_an_utterance_finished_in_the_middle_of_speech_goes_on_as_the_next_one() -> None:
    room = Room()
    room.window(0.9)
    first = room.audio(400)
    room.ear.finish(1)
    second = room.audio(400)
    assert bytes(room.stream.fed) == first + second
    assert room.stream.finished == [(1, len(first))]


def test_a_second_edge_while_it_feeds_feeds_no_preroll() -> None:
    room = Room()
    room.window(0.9)
    first = room.audio(200)
    room.window(0.1)
    pause = room.audio(100)
    room.window(0.9)
    assert bytes(room.stream.fed) == first + pause
    assert [type(fact).__name__ for fact in room.facts] == ["SpeechStarted", "SpeechStopped", "SpeechStarted"]


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


def test_silence_for_an_hour_keeps_no_more_than_the_preroll() -> None:
    room = Room()
    frame = encode("mulaw", bytes(320))
    for _ in range(20_000):
        room.ear.on_audio(frame)
    room.pushed.clear()
    room.window(0.9)
    assert len(room.stream.fed) == 2 * 8 * PREROLL_MS
