"""The lane: a line that is read in C hears, counts and answers what it would hear, count and answer without it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import os
import socket
import sys
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.lane import is_compiled
from antiphon.runtime.ports import CallStart, Line
from antiphon.server.lane import MANY, Lanes
from antiphon.server.sockets import MediaSockets, SocketLimits, open_media_socket
from antiphon.transports.twilio import TwilioLine
from antiphon.transports.twilio_calls import CallBook
from antiphon.transports.twilio_settings import LineLimits, PhoneSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "transports"))
from twilio_fakes import CONNECTED, STREAM, RecordingCall, StillSweep, media, start

pytestmark = pytest.mark.needs("cc")

KEY = base64.b64encode(bytes(16)).decode()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection: what one writes is there for the other at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener.accept()[0], far


class Sink(RecordingCall):
    """Audio goes into the log as well, joined: how it was cut is the lane's business."""

    def on_audio(self, audio: bytes) -> None:
        assert audio
        self.audio.append(audio)
        if self.log and self.log[-1][0] == "audio":
            self.log[-1] = ("audio", self.log[-1][1] + audio.hex())
        else:
            self.log.append(("audio", audio.hex()))


class Phone:
    """One line on one end of a connection; the test writes bytes into the other."""

    def __init__(
        self, lanes: Lanes, piece: int = 1, limits: LineLimits | None = None, kind: type[TwilioLine] = TwilioLine
    ) -> None:
        self.calls: list[Sink] = []
        self.piece = piece
        self.sweep = StillSweep()
        self.sockets = MediaSockets({}, SocketLimits(max_message_bytes=8192, close_timeout_s=0.2), lanes=lanes)
        self.line = kind(self, PhoneSettings(limits=limits or LineLimits()), self.sweep, CallBook())
        self.back = b""

    def connect(self, call: CallStart, line: Line) -> Sink:
        self.calls.append(Sink(call, line))
        self.calls[-1].piece_bytes = self.piece
        return self.calls[-1]

    async def open(self) -> None:
        ours, self.far = pair()
        self.far.setblocking(False)
        made: list[Any] = []

        class First(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.append(transport)

        await asyncio.get_running_loop().connect_accepted_socket(First, ours)
        open_media_socket(self.sockets, self.line, made[0], KEY, set())

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the server has ended it
            self.far.send(data)
        await self.rest()

    async def rest(self) -> None:
        """All that was written is read."""
        for _ in range(6):
            await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            self.back += self.far.recv(65536)

    async def close(self) -> None:
        self.far.close()
        await self.sockets.wait_empty()

    def told(self) -> tuple[Any, ...]:
        stats = self.line.stats
        logs = [[*call.log] for call in self.calls]
        return logs, stats.messages, stats.audio_bytes, stats.lost, stats.dropped, self.back


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for is far from here
        await asyncio.sleep(0.001)


def frame(payload: bytes, *, first: int = 0x81, mask: bytes = b"\x11\x22\x33\x44") -> bytes:
    size = len(payload)
    head = bytes([first, 0x80 | (size if size < 126 else 126 if size < 65536 else 127)])
    if size >= 126:
        head += size.to_bytes(2 if size < 65536 else 8, "big")
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


def text(message: Any, **options: Any) -> bytes:
    return frame(json.dumps(message, **options).encode())


BYE = frame(b"\x03\xe8", first=0x88)
BEGIN = text(CONNECTED) + text(start())


async def play(lanes: Lanes, steps: list[Any], piece: int, limits: LineLimits | None) -> tuple[Any, ...]:
    """Bytes are written, numbers are seconds that pass; then the caller is gone."""
    phone = Phone(lanes, piece, limits)
    await phone.open()
    for step in steps:
        if isinstance(step, bytes):
            await phone.write(step)
        else:
            phone.sweep.pass_time(step)
    phone.line._settle()
    before = phone.told()
    await phone.close()
    return before, phone.told()


def both(steps: list[Any], piece: int = 1, limits: LineLimits | None = None, many: int = MANY) -> tuple[Any, ...]:
    async def main() -> tuple[Any, ...]:
        async with asyncio.timeout(20):
            plain = await play(Lanes(wanted=False), steps, piece, limits)
            lanes = Lanes(many=many)
            quick = await play(lanes, steps, piece, limits)
            assert lanes.joined == 0
            if piece == 1 or many > 1:
                assert quick == plain
            assert sorted_out(quick[1]) == sorted_out(plain[1])
            return plain

    return uvloop.run(main())


def sorted_out(told: tuple[Any, ...]) -> tuple[Any, ...]:
    """A mark may overtake what is less than a piece, which nothing could come of yet: audio and the rest, apart."""
    logs, *rest = told
    heard = ["".join(what for kind, what in log if kind == "audio") for log in logs]
    return heard, [[each for each in log if each[0] != "audio"] for log in logs], rest


def sample(number: int, **over: Any) -> dict[str, Any]:
    return media(number, bytes([number % 251 + 1]) * 160, **over)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@pytest.fixture(autouse=True)
def _beats_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.server.lane.BEAT_S", 0.0)


def test_it_is_compiled_here():
    assert is_compiled(), "there is a C compiler, and yet it was not: make clean install, and read what pip says"


@pytest.mark.parametrize("piece", [1, 160, 256, 1024])
def test_a_plain_call(piece: int):
    steps = [BEGIN, *(text(sample(number)) for number in range(2, 60)), text({"event": "stop", "streamSid": STREAM})]
    (logs, messages, audio_bytes, *_), _ = both(steps, piece, many=1)
    assert (messages, audio_bytes) == (61, 58 * 160)
    assert logs[0][-1] == ("hangup", "stop")


def test_the_lane_itself_takes_the_audio():
    """Else every test here would compare Python with itself."""

    async def main() -> None:
        seen: list[bytes] = []

        class Watched(TwilioLine):
            def on_ws_text(self, data: bytes) -> None:
                seen.append(data)
                super().on_ws_text(data)

        phone = Phone(Lanes(many=1), 256, kind=Watched)
        await phone.open()
        await phone.write(BEGIN)
        seen.clear()
        for number in range(2, 12):
            await phone.write(text(sample(number)))
        assert not seen
        assert [len(audio) for audio in phone.calls[0].audio] == [256] * 6
        await phone.write(text({"event": "mark", "streamSid": STREAM, "sequenceNumber": "12", "mark": {"name": "m"}}))
        assert len(seen) == 1
        await phone.write(text(sample(13)))
        assert len(seen) == 1
        await phone.close()
        assert sum(map(len, phone.calls[0].audio)) == 11 * 160

    uvloop.run(main())


ORDINARY = sample(2)
ODD: list[bytes] = [
    text({**ORDINARY, "sequenceNumber": 2}),
    text({**ORDINARY, "sequenceNumber": "02"}),
    text({**ORDINARY, "sequenceNumber": "2 "}),
    text({**ORDINARY, "sequenceNumber": ""}),
    text({**ORDINARY, "sequenceNumber": "99999999999999999999"}),
    text({**ORDINARY, "sequenceNumber": "-2"}),
    text({**ORDINARY, "sequenceNumber": None}),
    text({**ORDINARY, "streamSid": "MZother"}),
    text({**ORDINARY, "streamSid": ""}),
    text({**ORDINARY, "event": "media2"}),
    text({**ORDINARY, "event": "mark"}),
    text({**ORDINARY, "more": {"nested": [1, 2]}}),
    text({**ORDINARY, "more": "plain", "and": 12, "yes": True}),
    text({**ORDINARY, "m\u00e9": "\u00e9"}, ensure_ascii=False),
    text({**ORDINARY, "quote": 'a"b\\'}),
    text({**ORDINARY, "media": {"track": "outbound", "payload": "AAAA"}}),
    text({**ORDINARY, "media": {"payload": "AAAA"}}),
    text({**ORDINARY, "media": {"payload": ""}}),
    text({**ORDINARY, "media": {"track": "inbound"}}),
    text({**ORDINARY, "media": "AAAA"}),
    text({**ORDINARY, "media": []}),
    text({key: ORDINARY[key] for key in ("media", "streamSid", "sequenceNumber", "event")}),
    text(ORDINARY, indent=1),
    text(ORDINARY) + text(ORDINARY),
    *(
        text({**ORDINARY, "media": {"payload": payload}})
        for payload in (
            "A",
            "AA",
            "AAA",
            "AAAA=",
            "AA==",
            "AB==",
            "AAE=",
            "AAF=",
            "A===",
            "====",
            "AA=A",
            "AA\nA",
            "A A=",
        )
    ),
    text({**ORDINARY, "media": {"payload": base64.b64encode(bytes(1500)).decode()}}),
    text({**ORDINARY, "media": {"payload": base64.b64encode(bytes(5000)).decode()}}),
    text({**ORDINARY, "media": {"payload": base64.b64encode(bytes(9000)).decode()}}),
    frame(b'{"event":"media","event":"media"}'),
    frame(json.dumps(ORDINARY).encode()[:-1] + b',"event":"mark"}'),
    frame(json.dumps(ORDINARY).encode() + b" \r\n"),
    frame(json.dumps(ORDINARY).encode() + b"x"),
    frame(json.dumps(ORDINARY).encode()[:-1]),
    frame(json.dumps(ORDINARY).encode()[:-2]),
    frame(json.dumps(ORDINARY).encode() + b"\xff"),
    frame(b""),
    frame(b"{}"),
    frame(b"{"),
    frame(b'{"'),
    frame(b"[]"),
    frame(json.dumps(ORDINARY).encode(), first=0x82),
    frame(json.dumps(ORDINARY).encode(), first=0xC1),
    frame(b"ping", first=0x89),
    frame(b"pong", first=0x8A),
    BYE,
    frame(b"", first=0x88),
    frame(json.dumps(ORDINARY).encode()[:50], first=0x01) + frame(json.dumps(ORDINARY).encode()[50:], first=0x80),
    frame(json.dumps(ORDINARY).encode()[:50], first=0x01) + text(sample(2)),
    frame(json.dumps(ORDINARY).encode(), first=0x80),
    frame(b"x" * 126, first=0x89),
    b"\x81\x05hello",
    b"\x81\xff" + (1 << 63).to_bytes(8, "big") + b"\x00" * 4,
    b"\x81\xff" + (2**64 - 1).to_bytes(8, "big") + b"\x00" * 4 + b"x" * 40,
    b"\x81\xfe\x00\x05\x00\x00\x00\x00hello",
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[6:40].hex())
def test_what_is_not_quite_ordinary(odd: bytes):
    after = [text(sample(number)) for number in range(3, 8)]
    both([BEGIN, odd, *after, 1.0, text({"event": "stop", "streamSid": STREAM})])


messages = st.one_of(
    st.integers(-2, 4),  # audio, so far from the number that is due
    st.sampled_from(["mark", "dtmf", "stop", "time", "binary", "ping", "close", "empty"]),
    st.sampled_from(ODD),
)


@settings(max_examples=150)
@given(
    script=st.lists(st.one_of(st.just(0), st.just(0), messages), max_size=40),
    cuts=st.lists(st.integers(0, 100_000), max_size=30),
    piece=st.sampled_from([1, 100, 256]),
    is_tight=st.booleans(),
    many=st.sampled_from([1, MANY]),
)
def test_any_stream_is_heard_alike(script: list[Any], cuts: list[int], piece: int, is_tight: bool, many: int):
    number, steps, data = 2, [], BEGIN
    for word in script:
        if steps and steps[-1] == BYE:
            break
        if isinstance(word, bytes) or word == "close":
            # In a read of its own: picows looks through all that it has read for faults before it tells anything of it.
            steps += chunked(data, cuts) if data else []
            steps += [BYE] if word == "close" else chunked(word, cuts)
            data = b""
        elif isinstance(word, int):
            data += text(sample(max(0, number + word)))
            number += 1 if word == 0 else 0
        elif word == "time":
            steps += [*chunked(data, cuts), 1.0]
            data = b""
        elif word in ("mark", "dtmf"):
            body = {"mark": {"name": "m"}} if word == "mark" else {"dtmf": {"digit": "5"}}
            data += text({"event": word, "streamSid": STREAM, "sequenceNumber": str(number), **body})
            number += 1
        elif word == "stop":
            data += text({"event": "stop", "streamSid": STREAM})
        elif word == "empty":
            data += text({**sample(number), "media": {"payload": ""}})
            number += 1
        else:
            data += frame(b"hi", first={"binary": 0x82, "ping": 0x89}[word])
    limits = LineLimits(burst_ms=200, flood_ms=100, bad_messages=5) if is_tight else None
    both([*steps, *chunked(data, cuts)], piece, limits, many)


def run(main: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    uvloop.run(bounded())


def test_a_sink_that_raises_ends_its_own_connection_alone(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        lanes = Lanes()
        bad, good = Phone(lanes), Phone(lanes)
        for phone in (bad, good):
            await phone.open()
            await phone.write(BEGIN)
        bad.calls[0].on_audio = None  # type: ignore[method-assign, assignment]
        await bad.write(text(sample(2)) + text(sample(3)))
        await good.write(text(sample(2)))
        await bad.sockets.wait_empty()
        assert good.calls[0].audio
        assert len(good.sockets.open) == 1
        assert bad.calls[0].log == [("dropped", "line.lost")]
        await good.close()
        bad.far.close()

    run(main)
    assert "a media socket's listener failed" in caplog.text


def test_many_are_read_in_beats_and_few_at_once():
    async def main() -> None:
        lanes = Lanes()
        phones = [Phone(lanes) for _ in range(MANY + 3)]
        for phone in phones:
            await phone.open()
            phone.far.send(BEGIN + text(sample(2)))
        await until(lambda: all(phone.calls and phone.calls[0].audio for phone in phones))
        for phone in phones[: MANY - 2]:
            await phone.close()
        assert lanes.joined == 5
        for phone in phones[MANY - 2 :]:
            phone.far.send(text(sample(3)))
        await asyncio.sleep(0)
        await phones[-1].rest()
        assert all(len(phone.calls[0].audio) == 2 for phone in phones[MANY - 2 :])
        for phone in phones[MANY - 2 :]:
            await phone.close()
        assert lanes.joined == 0

    run(main)


def test_the_peer_is_reset_or_gone_in_the_middle_of_a_message():
    async def main() -> None:
        for linger in (False, True):
            phone = Phone(Lanes(many=1), 256)
            await phone.open()
            far = phone.far
            far.send(BEGIN + text(sample(2)) + text(sample(3))[:100])
            await until(lambda phone=phone: bool(phone.calls))
            if linger:  # closed with data unread, and at once: the peer sees a reset
                far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            await phone.close()
            assert phone.calls[0].log[-1] == ("dropped", "line.lost")
            assert b"".join(phone.calls[0].audio) == bytes([3]) * 160

    run(main)


def test_nothing_of_a_connection_stays():
    async def main() -> None:
        lanes = Lanes()
        gone = []
        for _ in range(3):
            phone = Phone(lanes)
            await phone.open()
            await phone.write(BEGIN + text(sample(2)) + text(sample(3))[:40])
            await phone.close()
            gone.append(weakref.ref(phone.line))
            del phone
        await asyncio.sleep(0.01)
        gc.collect()
        assert [ref() for ref in gone] == [None] * 3

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    run(main)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lane_by_itself():
    from antiphon.lane._native import Lane, Slot

    lane = Lane(1)
    ours, far = socket.socketpair()
    told: list[Any] = []

    class Owner:
        def pass_on(self, data: bytes) -> None:
            told.append(data)

        def at_end(self) -> None:
            told.append("end")
            slot.leave()

        def failed(self, error: BaseException) -> None:
            told.append(error)

    slot = lane.join(ours.fileno(), Owner(), 40)
    assert len(lane) == 1
    far.send(b"\x81\x85abcdhello" + b"\x81\x85abcd")
    lane.poll()
    far.send(b"hello")
    lane.poll()
    assert b"".join(told) == b"\x81\x85abcdhello" * 2
    for piece in (0, 1025, -1):
        with pytest.raises(ValueError, match="piece"):
            slot.arm(Owner(), b"MZ", 1, 100, piece)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        lane.join(9999, Owner(), 40)
    with pytest.raises(ValueError, match="open socket"):
        lane.join(-1, Owner(), 40)
    with pytest.raises(TypeError):
        Lane()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Slot()
    far.close()
    lane.poll()
    assert told[-1] == "end"
    assert len(lane) == 0
    slot.leave()
    slot.arm(Owner(), b"MZ", 1, 100, 1)  # type: ignore[arg-type]
    assert (slot.take(), slot.pending()) == ((0, 0), b"")
    lane.close()
    lane.close()
    ours.close()
