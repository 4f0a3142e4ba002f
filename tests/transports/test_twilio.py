"""The phone line without a socket: frames in, calls out, on virtual time."""

import base64
import json

import pytest
from picows import WSMsgType
from twilio_fakes import CALL, CONNECTED, STOP, STREAM, Rig, media, start

from antiphon.errors import AdmissionRefused, PeerError, StoreError
from antiphon.runtime.ports import Line
from antiphon.transports.twilio import TwilioLine
from antiphon.transports.twilio_settings import LineLimits, PhoneSettings


def test_the_line_fits_the_port():
    line: Line = Rig().line
    assert (line.transport, line.codec, line.sample_rate, line.marks) == ("twilio", "mulaw", 8000, True)
    assert isinstance(line, TwilioLine)


def test_a_whole_call_as_twilio_documents_it():
    rig = Rig().begin(language="hi-IN", caller="+910000000000", campaign="spring")
    rig.give(media(2, b"\x01" * 160), media(3, b"\x02" * 160))
    rig.give({"event": "mark", "sequenceNumber": "4", "streamSid": STREAM, "mark": {"name": "7"}})
    rig.give(
        {
            "event": "dtmf",
            "streamSid": STREAM,
            "sequenceNumber": "5",
            "dtmf": {"track": "inbound_track", "digit": "#"},
        }
    )
    rig.give({**STOP, "sequenceNumber": "6"})
    call = rig.call
    assert (call.start.call_id, call.start.transport) == (CALL, "twilio")
    assert (call.start.language, call.start.caller) == ("hi-IN", "+910000000000")
    assert call.start.parameters["campaign"] == "spring"
    assert call.audio == [b"\x01" * 160, b"\x02" * 160]
    assert call.log == [("mark", "7"), ("digit", "#"), ("hangup", "stop")]
    assert rig.book.ended(CALL) == "caller"
    assert rig.socket.closed == (1000, "stop")
    rig.lose()
    assert len(call.log) == 3, "the end is told once"
    assert rig.line.stats.messages == 7
    assert rig.line.stats.dropped == {}


def test_what_is_sent_is_what_twilio_reads():
    rig = Rig().begin()
    rig.line.send(b"\xff" * 160)
    rig.line.mark('segment "1"')
    rig.line.clear()
    assert rig.socket.sent == [
        {
            "event": "media",
            "streamSid": STREAM,
            "media": {"payload": base64.b64encode(b"\xff" * 160).decode()},
        },
        {"event": "mark", "streamSid": STREAM, "mark": {"name": 'segment "1"'}},
        {"event": "clear", "streamSid": STREAM},
    ]
    assert rig.line.stats.sent_audio_bytes == 160


def test_long_audio_is_cut_into_messages_without_loss():
    rig = Rig().begin()
    audio = bytes(range(256)) * 40
    rig.line.send(audio)
    pieces = [base64.b64decode(message["media"]["payload"]) for message in rig.socket.sent]
    assert b"".join(pieces) == audio
    assert max(map(len, pieces)) <= 4000


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_socket_is_no_hang_up(lost: bool):
    rig = Rig().begin()
    if not lost:
        rig.give(STOP)
    rig.lose()
    assert rig.call.log == ([("dropped", "line.lost")] if lost else [("hangup", "stop")])
    assert (rig.book.ended(CALL) == "") is lost
    assert len(rig.sweep) == 0, "nothing is left running"
    rig.line.send(b"x")
    rig.line.mark("m")
    rig.line.clear()
    rig.line.close(1000, "again")
    rig.line.hang_up("again")
    assert rig.socket.sent == []


def test_hang_up_is_noted_and_the_call_hears_nothing_more():
    rig = Rig().begin()
    rig.line.hang_up("goodbye")
    rig.give(media(2), STOP)
    rig.lose()
    assert rig.book.ended(CALL) == "goodbye"
    assert rig.socket.closed == (1000, "goodbye")
    assert rig.call.log == []
    assert rig.call.audio == []


def test_a_peer_that_does_not_answer_the_close_is_cut():
    rig = Rig().begin()
    rig.line.close(1000, "taken over")
    rig.sweep.pass_time(1.5)
    assert rig.socket.cut is None
    rig.sweep.pass_time(1.0)
    assert rig.socket.cut is True


def test_a_peer_that_closes_and_does_not_go_is_cut():
    rig = Rig().begin()
    rig.give(b"\x03\xe8", kind=WSMsgType.CLOSE)
    assert rig.socket.closed is None, "the socket answers"
    rig.sweep.pass_time(2.5)
    assert rig.socket.cut is True
    rig.lose()
    assert rig.call.log == [("dropped", "line.lost")]


def test_a_transport_that_is_closing_is_not_written_to():
    rig = Rig().begin()
    rig.socket.closing = True
    rig.line.send(b"x" * 160)
    rig.line.mark("m")
    assert rig.socket.sent == []


@pytest.mark.parametrize(
    ("call_sid", "parameters", "expected"),
    [(CALL, {"call_id": "own"}, CALL), ("", {"call_id": "own"}, "own"), ("", {}, STREAM)],
)
def test_the_call_id(call_sid: str, parameters: dict[str, str], expected: str):
    message = start(**parameters)
    message["start"]["callSid"] = call_sid
    rig = Rig().give(message)
    assert rig.call.start.call_id == expected == rig.line.call_id


def test_start_with_only_what_a_small_client_sends():
    """A59 reads only ``start.streamSid`` and ``start.callSid``; nothing else is required."""
    rig = Rig().give(
        {"event": "start", "start": {"streamSid": "s"}},
        {"event": "media", "media": {"payload": "AAAA"}},
        {"event": "media", "streamSid": "s", "media": {"payload": "AQEB"}},
    )
    assert rig.call.start.call_id == "s"
    assert rig.call.audio == [b"\0\0\0", b"\1\1\1"]


@pytest.mark.parametrize(
    ("error", "close"),
    [
        (AdmissionRefused("full"), (1013, "admission.full")),
        (PeerError("bad id", code="peer.call_id"), (1008, "peer.call_id")),
        (StoreError("down"), (1011, "store.failed")),
    ],
)
def test_a_call_that_is_not_taken(error: Exception, close: tuple[int, str]):
    rig = Rig(error=error).begin()
    assert rig.socket.closed == close
    rig.give(media(2))
    rig.lose()


def test_other_audio_than_mulaw_is_refused():
    message = start()
    message["start"]["mediaFormat"] = {"encoding": "audio/opus", "sampleRate": 48000, "channels": 2}
    rig = Rig().give(message)
    assert rig.socket.closed == (1003, "line.media_format")
    assert rig.switchboard.calls == []


# -- bad input (F13, F14) ---------------------------------------------------------------------------

BAD = {
    "frame.json": b'{"event":"media","media":{"payl',
    "frame.not_object": b"22",
    "frame.event": b'{"sequenceNumber":"3"}',
    "frame.base64": json.dumps(media(2, media={"payload": "%%%="})).encode(),
    "frame.field": json.dumps(media(2, media={"payload": 17})).encode(),
    "frame.utf8": b'{"event":"\xff\xfe"}',
    "event.unknown": b'{"event":"telepathy","streamSid":"x"}',
    "stream.other": json.dumps(media(2, streamSid="MZother")).encode(),
    "start.repeated": json.dumps(start()).encode(),
    "dtmf.digit": json.dumps({"event": "dtmf", "streamSid": STREAM, "dtmf": {"digit": "12"}}).encode(),
}


@pytest.mark.parametrize("code", BAD)
def test_bad_input_is_counted_and_the_call_goes_on(code: str):
    rig = Rig().begin().give(BAD[code], media(2, b"\x05" * 160))
    assert rig.line.stats.dropped == {code: 1}
    assert rig.call.audio == [b"\x05" * 160]
    assert rig.socket.closed is None


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"null", b"[" * 60_000, b'{"event":"media","x":' + b"[" * 60_000, b'{"event":"mark"}', b"[]"],
)
def test_odd_json(data: bytes):
    rig = Rig().begin().give(data, media(2))
    assert sum(rig.line.stats.dropped.values()) == 1
    assert len(rig.call.audio) == 1


def test_a_binary_frame_is_counted():
    rig = Rig().begin().give(json.dumps(media(2)).encode(), kind=WSMsgType.BINARY).give(media(2))
    assert rig.line.stats.dropped == {"frame.binary": 1}
    assert len(rig.call.audio) == 1


def test_media_before_start_is_counted_and_the_call_still_begins():
    rig = Rig().give(CONNECTED, media(1), {"event": "dtmf", "dtmf": {"digit": "1"}}, start(), media(2))
    assert rig.line.stats.dropped == {"media.before_start": 1, "frame.before_start": 1}
    assert len(rig.call.audio) == 1


def test_a_second_call_on_one_stream_is_closed():
    other = start()
    other["start"]["callSid"] = "CAother"
    rig = Rig().begin().give(other)
    assert rig.socket.closed == (1008, "line.second_start")
    assert rig.call.log == [("dropped", "line.second_start")]
    assert len(rig.switchboard.calls) == 1


def test_fifty_bad_frames_are_borne_and_the_next_closes():
    rig = Rig().begin().give(*[b"{"] * 50, media(2))
    assert rig.socket.closed is None
    assert len(rig.call.audio) == 1
    rig.give(b"{")
    assert rig.socket.closed == (1008, "line.bad_frames")
    assert rig.call.log == [("dropped", "line.bad_frames")]


def test_a_few_bad_frames_a_second_are_borne_for_ever():
    rig = Rig().begin()
    for second in range(120):
        rig.give(*[b"nonsense"] * 5, media(2 + second))
        rig.sweep.pass_time(1.0)
    assert rig.socket.closed is None
    assert len(rig.call.audio) == 120


def test_what_the_socket_closed_for_is_told_and_logged_once(caplog: pytest.LogCaptureFixture):
    rig = Rig().begin()
    rig.line.on_peer_fault("peer.frame_too_large")
    rig.give(media(2))
    rig.lose()
    assert rig.call.log == [("dropped", "peer.frame_too_large")]
    assert rig.call.audio == []
    (record,) = caplog.records
    assert record.getMessage() == "twilio line closed: peer.frame_too_large (2 messages, dropped {})"
    assert record.__dict__["call"] == CALL


# -- order (F12) ------------------------------------------------------------------------------------


def heard(rig: Rig) -> list[int]:
    return [audio[0] for audio in rig.call.audio]


def test_duplicates_and_swapped_messages_come_out_in_order_once():
    rig = Rig().begin()
    rig.give(*[media(n) for n in (2, 3, 3, 5, 4, 2, 4, 7, 8, 6, 9)])
    assert heard(rig) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert rig.line.stats.dropped == {"frame.stale": 3}


def test_a_missing_message_holds_back_eight_at_most():
    rig = Rig().begin().give(*[media(n) for n in range(2, 6)])
    rig.give(*[media(n) for n in range(7, 15)])
    assert heard(rig) == [2, 3, 4, 5]
    rig.give(media(15), media(6), media(16))
    assert heard(rig) == [2, 3, 4, 5, *range(7, 17)]
    assert rig.line.stats.dropped == {"frame.stale": 1}
    rig.lose()
    assert rig.line.stats.lost == 1


def test_held_messages_are_released_when_nothing_follows():
    rig = Rig().begin().give(media(2), media(4), media(6))
    assert heard(rig) == [2]
    rig.sweep.pass_time(1.0)
    assert heard(rig) == [2, 4, 6]


def test_an_unreadable_message_delays_nobody():
    rig = Rig().begin().give(media(2), b"{broken", media(4), media(5))
    assert heard(rig) == [2, 4, 5]


def test_digits_and_marks_are_not_doubled_and_stop_does_not_wait():
    digit = {"event": "dtmf", "streamSid": STREAM, "sequenceNumber": "3", "dtmf": {"digit": "5"}}
    rig = Rig().begin().give(media(2), digit, digit, media(9), {**STOP, "sequenceNumber": "99"})
    assert rig.call.log == [("digit", "5"), ("hangup", "stop")]
    assert heard(rig) == [2, 9]


def test_a_sender_without_usable_numbers_is_heard_all_the_same():
    rig = Rig().begin().give(*[media(2) for _ in range(200)])
    assert len(rig.call.audio) == 200 - 49
    rig = Rig().begin().give(*[media(0, b"\x01") for _ in range(20)])
    assert len(rig.call.audio) == 20


def test_a_forged_number_does_not_deafen_the_line():
    rig = Rig().begin().give(media(2), media(10**12), *[media(n) for n in range(3, 40)])
    assert heard(rig) == list(range(2, 40))


def test_the_outbound_track_is_not_the_callers_voice():
    outbound = media(3)
    outbound["media"]["track"] = "outbound"
    rig = Rig().begin().give(media(2), outbound, media(4))
    assert heard(rig) == [2, 4]


# -- floods, time and slow readers (F14, F15) -------------------------------------------------------


def test_a_backlog_after_a_stall_is_heard_whole():
    rig = Rig().begin().give(*[media(n) for n in range(2, 352)])
    assert len(rig.call.audio) == 350, "7 s at once"


def test_ten_times_real_time_is_dropped_and_then_closed():
    rig = Rig().begin()
    number = 2
    seconds = 0.0
    while rig.socket.closed is None and seconds < 30:
        rig.give(*[media(number + n) for n in range(250)])
        number += 250
        rig.sweep.pass_time(0.5)
        seconds += 0.5
    assert rig.socket.closed == (1008, "line.flood")
    assert rig.line.stats.dropped["media.flood"] > 100
    assert seconds < 5


@pytest.mark.parametrize("message", [{"event": "telepathy"}, CONNECTED, media(0, media={"payload": ""})])
def test_a_flood_of_empty_messages_is_one_too(message: object):
    rig = Rig().begin()
    for _ in range(10):
        rig.give(*[message] * 1000)
    assert rig.socket.closed == (1008, "line.flood")


def test_real_time_goes_on_for_ever():
    rig = Rig().begin()
    for second in range(60):
        rig.give(*[media(2 + second * 50 + n) for n in range(50)])
        rig.sweep.pass_time(1.0)
    assert len(rig.call.audio) == 3000
    assert rig.line.stats.dropped == {}


def test_a_line_that_never_starts_is_closed():
    rig = Rig().give(CONNECTED)
    rig.sweep.pass_time(9.5)
    assert rig.socket.closed is None
    rig.sweep.pass_time(1.0)
    assert rig.socket.closed == (1008, "line.start_timeout")


def test_300_seconds_of_nothing_close_the_line_with_a_warning(warnings_logged: list[str]):
    rig = Rig().begin().give(media(2))
    rig.sweep.pass_time(299)
    assert rig.socket.closed is None
    rig.give(media(3))
    rig.sweep.pass_time(299)
    assert rig.socket.closed is None
    rig.sweep.pass_time(2)
    assert rig.socket.closed == (1008, "line.idle")
    assert rig.call.log == [("dropped", "line.idle")]
    assert len(warnings_logged) == 1
    assert "line.idle" in warnings_logged[0]


def test_a_slow_reader_loses_audio_but_no_control_message_and_then_the_line():
    rig = Rig().begin()
    assert rig.socket.limits == (16_384, 65_536)
    rig.line.pause_writing()
    rig.line.send(b"x" * 160)
    rig.line.mark("m")
    rig.line.clear()
    assert [message["event"] for message in rig.socket.sent] == ["mark", "clear"]
    assert rig.line.stats.dropped == {"media.unsent": 1}
    rig.sweep.pass_time(4)
    rig.line.resume_writing()
    rig.line.send(b"x" * 160)
    assert rig.socket.sent[-1]["event"] == "media"
    rig.sweep.pass_time(10)
    assert rig.socket.closed is None
    rig.line.pause_writing()
    rig.sweep.pass_time(5.5)
    assert rig.socket.closed == (1013, "line.slow_consumer")
    assert rig.call.log == [("dropped", "line.slow_consumer")]
    rig.sweep.pass_time(3)
    assert rig.socket.cut is True, "what is stuck is not waited for"


def test_limits_are_settings():
    settings = PhoneSettings(limits=LineLimits(bad_messages=2, start_timeout_s=1.0))
    rig = Rig(settings).begin().give(b"{", b"{", b"{")
    assert rig.socket.closed == (1008, "line.bad_frames")


def test_the_callback_may_end_the_line_at_any_moment():
    """A call that hangs up inside ``on_audio`` gets nothing more, though more is at hand."""
    rig = Rig().begin()
    call = rig.call
    taken: list[bytes] = []

    def hang_up(audio: bytes) -> None:
        taken.append(audio)
        rig.line.hang_up("enough")

    call.on_audio = hang_up  # type: ignore[method-assign]
    rig.give(media(4), media(3), media(2), media(5))
    assert len(taken) == 1
    assert rig.socket.closed == (1000, "enough")
