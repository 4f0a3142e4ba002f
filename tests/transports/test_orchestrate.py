"""A socket on /orchestrate without the socket: messages in, what the call is told out, on virtual time."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from orchestrate_fakes import Rig, fragment

from antiphon.errors import AdmissionRefused, BadFrame, PeerError, StoreError
from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session
from antiphon.runtime.ports import Line
from antiphon.transports import orchestrate_messages as msg
from antiphon.transports.twilio_settings import LineLimits

VAD_END = {"type": "vad_end", "confidence": 0.9}
SPEAKING = {"type": "user_speaking"}


def test_the_line_fits_the_port() -> None:
    line: Line = Rig("session_id=s1&rate=24000&marks=1").line
    assert (line.transport, line.codec, line.sample_rate, line.marks) == ("orchestrate", "pcm16", 24_000, True)


def test_what_a_client_says_is_told_to_the_call() -> None:
    rig = Rig("session_id=s1&language=hi-IN&marks=1").give(
        SPEAKING,
        fragment("what", False, session_id="s1", timestamp=1234567890.0),
        fragment("what are the fees"),
        {"type": "vad_end", "session_id": "s1", "confidence": 0.95},
        {"type": "text", "text": "and the hostel?", "language": "en-IN"},
        {"type": "text", "text": "kya"},
        {"type": "key", "digit": "#"},
        {"type": "mark", "name": "1.0.0"},
    )
    start = rig.call.start
    assert (start.call_id, start.transport, start.language) == ("s1", "orchestrate", "hi-IN")
    assert start.words
    assert start.policy == {"greeting": False, "excuse": False, "silence_ms": 3_600_000}
    assert rig.log == [
        ("speaking",),
        ("fragment", "what", False),
        ("fragment", "what are the fees", True),
        ("turn_end",),
        ("text", "and the hostel?", "en-IN"),
        ("text", "kya", ""),
        ("digit", "#"),
        ("mark", "1.0.0"),
    ]
    assert rig.errors == []
    assert rig.line.stats.dropped == {}


def test_who_wants_to_be_greeted_is() -> None:
    assert "greeting" not in Rig("session_id=s1&greet=1").call.start.policy


def test_the_end_of_the_client_is_the_end_of_the_session() -> None:
    rig = Rig().give({"type": "end"}, fragment("late"))
    assert rig.log == [("hangup", "client")]
    assert rig.socket.sent == [{"type": "ended", "reason": "client"}]
    assert rig.socket.closed == (1000, "client")
    rig.lose()
    assert rig.log == [("hangup", "client")], "the end is told once"


def test_a_lost_socket_is_no_end() -> None:
    rig = Rig()
    rig.lose()
    rig.lose()
    assert rig.log == [("dropped", "line.lost")]


# -- audio ----------------------------------------------------------------------------------------


def test_audio_goes_to_the_call_as_it_comes() -> None:
    rig = Rig().give(b"\x01\x02" * 320, b"\x03\x04" * 5, b"")
    assert rig.log == [("audio", b"\x01\x02" * 320), ("audio", b"\x03\x04" * 5)]
    assert rig.line.stats.audio_bytes == 650


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (fragment("what"), b"\x00\x00", "orchestrate.mixed"),
        (SPEAKING, b"\x00\x00", "orchestrate.mixed"),
        (b"\x00\x00", fragment("what"), "orchestrate.mixed"),
        (b"\x00\x00", VAD_END, "orchestrate.mixed"),
    ],
)
def test_the_first_kind_decides(first: Any, second: Any, code: str) -> None:
    rig = Rig().give(first, second)
    assert rig.errors == [code]
    assert len(rig.log) == 1
    rig.give({"type": "text", "text": "typed"}, first)
    assert len(rig.log) == 3, "typed lines go with both"


@pytest.mark.parametrize(("audio", "code"), [(b"\x00" * 3, "frame.audio"), (b"\x00" * 32_002, "frame.audio_too_long")])
def test_audio_that_cannot_be_used_is_refused(audio: bytes, code: str) -> None:
    rig = Rig().give(audio)
    assert (rig.errors, rig.log) == ([code], [])


class Doubling:
    """A codec of the test's: each byte stands for two, and 0xFF for none."""

    cleared = 0

    def clear(self) -> None:
        self.cleared += 1

    def decode(self, packet: bytes) -> bytes:
        if b"\xff" in packet:
            raise BadFrame("no packet", code="opus.bad_packet")
        return packet * 2

    def encode(self, pcm: bytes) -> list[bytes]:
        return [pcm[:2], pcm[2:]]


def test_another_codec_goes_both_ways() -> None:
    rig = Rig("session_id=s1&codec=opus", coder=Doubling()).give(b"\x01\x02", b"\xff", b"\x03")
    assert rig.log == [("audio", b"\x01\x02\x01\x02"), ("audio", b"\x03\x03")]
    assert rig.errors == ["opus.bad_packet"]
    rig.line.send(b"abcd")
    assert rig.socket.sent[-2:] == [b"ab", b"cd"]


def test_what_was_cut_off_does_not_begin_what_is_said_next() -> None:
    coder = Doubling()
    rig = Rig("session_id=s1&codec=opus", coder=coder)
    rig.line.clear()
    assert coder.cleared == 1
    assert rig.socket.sent == [{"type": "clear"}]


class Stretching(Doubling):
    """Each byte stands for 10 ms at 16 kHz."""

    def decode(self, packet: bytes) -> bytes:
        return super().decode(packet) * 160


def test_packets_cost_by_how_long_they_sound() -> None:
    limits = LineLimits(burst_ms=3000, flood_ms=3000)
    rig = Rig("session_id=s1&codec=opus", coder=Stretching(), limits=limits).give(*[bytes(12)] * 60)
    assert rig.line.stats.audio_bytes <= 3000 * 32
    assert rig.socket.closed == (1008, "line.flood")


def test_audio_is_sent_in_the_form_asked_for() -> None:
    for form, sent in (
        ("binary", [b"abcd"]),
        ("base64", [{"type": "audio", "turn_id": 7, "data": base64.b64encode(b"abcd").decode()}]),
        ("none", []),
    ):
        rig = Rig(f"session_id=s1&audio={form}")
        rig.line.send(b"abcd")
        assert rig.socket.sent == sent


def test_marks_and_clears_are_for_those_who_hear() -> None:
    for query, sent in (
        ("marks=1", [{"type": "mark", "name": "1.0.0"}, {"type": "clear"}]),
        ("", [{"type": "clear"}]),
        ("audio=none", []),
    ):
        rig = Rig(f"session_id=s1&{query}")
        rig.line.mark("1.0.0")
        rig.line.clear()
        assert rig.socket.sent == sent


def test_nothing_is_sent_on_a_connection_that_is_going() -> None:
    rig = Rig()
    rig.socket.closing = True
    rig.line.send(b"abcd")
    rig.line.clear()
    assert rig.socket.sent == []


def test_audio_for_a_peer_that_does_not_read_is_dropped_and_then_the_peer() -> None:
    rig = Rig(limits=LineLimits(stuck_timeout_s=2, idle_timeout_s=60))
    rig.line.pause_writing()
    rig.line.send(b"abcd")
    rig.line.clear()
    assert rig.socket.sent == [{"type": "clear"}]
    rig.line.resume_writing()
    rig.line.send(b"abcd")
    assert rig.socket.sent[-1] == b"abcd"
    rig.line.pause_writing()
    rig.sweep.pass_time(3)
    assert rig.socket.closed == (1013, "line.slow_consumer")


# -- news -----------------------------------------------------------------------------------------


def test_what_happens_in_the_session_is_told_until_the_end() -> None:
    rig = Rig()
    rig.news.next = [msg.Transcript(utterance=1, text="what", final=False, language="")]
    rig.line.tell(Session(), ev.Entry(1, 0, ev.SpeechStarted()), ())
    told = {"type": "transcript", "utterance": 1, "text": "what", "final": False, "language": ""}
    assert rig.socket.sent == [told]
    rig.line.hang_up("agent")
    rig.line.tell(Session(), ev.Entry(2, 0, ev.SpeechStarted()), ())
    assert rig.socket.sent == [told, {"type": "ended", "reason": "agent"}]
    assert rig.socket.closed == (1000, "agent")


@pytest.mark.parametrize(("code", "reason"), [(4001, "session.taken_over"), (1012, "server.restart")])
def test_other_closes_say_why_in_the_close_alone(code: int, reason: str) -> None:
    rig = Rig()
    rig.line.close(code, reason)
    assert (rig.socket.sent, rig.socket.closed) == ([], (code, reason))
    assert rig.log == []


def test_a_session_at_rest_moves_when_the_server_is_about_to_stop_and_a_busy_one_when_it_may() -> None:
    async def main() -> None:
        rig, session = Rig(), Session()

        def happens(event: ev.AnyEvent) -> None:
            entry, commands = session.receive(event, session.state.at + 10)
            rig.line.tell(session, entry, commands)

        happens(ev.SessionStarted("s1", "orchestrate", "en-IN", encode_policy(Policy(greeting=False))))
        happens(ev.TextTyped("what are the fees"))
        happens(ev.IntentReady(1, "fees"))
        happens(ev.PassagesReady(1))
        rig.line.on_drain()
        happens(ev.SegmentReady(1, 1, 0, "Two lakh."))
        happens(ev.SegmentStarted(1, 0))
        await asyncio.sleep(0)
        assert rig.socket.closed is None, "the answer is heard to its end"
        happens(ev.ReplyGenerated(1, 1, 1))
        happens(ev.PlayoutFinished(1))
        assert rig.socket.closed is None
        await asyncio.sleep(0)
        assert rig.socket.closed == (1012, "server.restart")
        assert rig.log == [("dropped", "server.restart")]

        quiet = Rig()
        quiet.line.on_drain()
        assert quiet.socket.closed is None, "it is not told of its session yet"
        quiet.line.tell(session, ev.Entry(1, 0, ev.SpeechStarted()), ())
        await asyncio.sleep(0)
        assert quiet.socket.closed == (1012, "server.restart")

    asyncio.run(main())


# -- what cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "frame.json"),
        ("", "frame.json"),
        ("[1]", "frame.type"),
        ("null", "frame.type"),
        ('{"text": "no type"}', "frame.type"),
        ('{"type": 7}', "frame.type"),
        ('{"type": "shout"}', "message.unknown"),
        ('{"type": "stt_fragment", "text": "a"}', "frame.field"),
        ('{"type": "stt_fragment", "text": 1, "is_final": true}', "frame.field"),
        ('{"type": "stt_fragment", "text": "a", "is_final": "true"}', "frame.field"),
        ('{"type": "key", "digit": "12"}', "frame.field"),
        ('{"type": "vad_end", "confidence": "high"}', "frame.field"),
        ('{"type": "text", "text": "' + "a" * 4001 + '"}', "frame.field"),
        ('{"type": "text", "text": ""}', "message.blank"),
        ('{"type": "text", "text": " \\n\\u00a0", "language": "en-IN"}', "message.blank"),
        ('{"type": "text", "text": "hallo", "language": "de-DE"}', "session.bad_language"),
        ('{"type": "text", "text": "hallo", "language": "en_IN"}', "session.bad_language"),
        ('{"type": "text", "text": "hallo", "language": " "}', "session.bad_language"),
        ('{"type": "vad_end", "session_id": "s2"}', "session.other"),
        ("[" * 50_000, "frame.type"),
        ('{"type": "vad_end", "x": ' + "[" * 50_000, "frame.json"),
    ],
)
def test_what_cannot_be_used_is_answered_with_its_code(message: str, code: str) -> None:
    rig = Rig(languages=("en-IN", "hi-IN")).give(message)
    assert rig.errors == [code]
    assert rig.log == []
    assert rig.socket.closed is None, "the session goes on"


def test_a_language_that_is_not_offered_is_answered_with_those_that_are() -> None:
    rig = Rig(languages=("en-IN", "hi-IN")).give({"type": "text", "text": "namaste", "language": "hi-IN"})
    assert rig.log == [("text", "namaste", "hi-IN")]
    rig.give({"type": "text", "text": "hallo", "language": "de-DE"})
    assert "en-IN, hi-IN" in rig.socket.sent[-1]["message"]
    anywhere = Rig().give({"type": "text", "text": "hallo", "language": "de-DE"})
    assert anywhere.log == [("text", "hallo", "de-DE")], "where none is offered each may be"


def test_an_answer_to_a_long_value_is_short() -> None:
    rig = Rig().give({"type": "key", "digit": "1" * 60_000})
    assert len(rig.socket.sent[0]["message"]) <= 200


def test_bytes_that_are_no_text_are_answered_too() -> None:
    assert Rig().raw(b'{"type": "text", "text": "\xff"}').errors == ["frame.utf8"]


def test_fields_of_a_newer_client_are_no_fault() -> None:
    rig = Rig().give({**VAD_END, "energy": [1, 2], "session_id": ""})
    assert (rig.errors, rig.log) == ([], [("turn_end",)])


def test_who_goes_on_sending_garbage_is_closed() -> None:
    rig = Rig(limits=LineLimits(bad_messages=3))
    for _ in range(3):
        rig.give("garbage")
    assert rig.socket.closed is None
    rig.give("garbage", fragment("what"))
    assert rig.socket.closed == (1008, "line.bad_frames")
    assert rig.log == [("dropped", "line.bad_frames")]


def test_garbage_now_and_then_is_forgiven() -> None:
    rig = Rig(limits=LineLimits(bad_messages=2, bad_messages_per_s=1, idle_timeout_s=1000))
    for _ in range(20):
        rig.give("garbage")
        rig.sweep.pass_time(1)
    assert rig.socket.closed is None


@pytest.mark.parametrize("message", [fragment("a" * 3000, False), b"\x00" * 32_000], ids=["words", "sound"])
def test_a_flood_is_dropped_and_then_closed(message: Any) -> None:
    rig = Rig(limits=LineLimits(burst_ms=3000, flood_ms=3000))
    given = 0
    while rig.socket.closed is None:
        rig.give(message)
        given += 1
        assert given < 1000
    assert rig.socket.closed == (1008, "line.flood")
    assert rig.line.stats.dropped["line.flood"] > 2
    assert rig.log[-1] == ("dropped", "line.flood")


def test_an_honest_client_never_floods() -> None:
    rig = Rig()
    for _ in range(600):
        for _ in range(25):
            rig.give(b"\x00" * 640)
        rig.sweep.pass_time(0.5)
    assert rig.line.stats.dropped == {}


def test_a_socket_without_any_message_is_closed() -> None:
    rig = Rig(limits=LineLimits(idle_timeout_s=300))
    rig.sweep.pass_time(299)
    rig.give(VAD_END)
    rig.sweep.pass_time(299)
    assert rig.socket.closed is None
    rig.sweep.pass_time(2)
    assert rig.socket.closed == (1008, "line.idle")
    assert rig.log[-1] == ("dropped", "line.idle")
    rig.sweep.pass_time(3)
    assert rig.socket.cut, "it did not answer the close"


def test_a_peer_that_broke_the_protocol_is_gone() -> None:
    rig = Rig()
    rig.line.on_peer_fault("frame.too_large")
    assert rig.log == [("dropped", "frame.too_large")]
    rig.give(fragment("what"))
    assert len(rig.log) == 1


@pytest.mark.parametrize(
    ("error", "close"),
    [
        (AdmissionRefused("full"), (1013, "admission.full")),
        (PeerError("bad", code="session.bad_id"), (1008, "session.bad_id")),
        (StoreError("down"), (1011, "store.failed")),
    ],
)
def test_a_session_that_cannot_be_taken_on_is_closed_with_the_reason(error: Exception, close: tuple[int, str]) -> None:
    rig = Rig(error=error)
    assert rig.socket.closed == close
    rig.give(fragment("what"))
    assert rig.socket.sent == []
