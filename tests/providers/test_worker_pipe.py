"""The framing of both ends, and what the server's end makes of a worker that dies, hangs or goes mad."""

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.providers import workers
from antiphon.providers.worker_pipe import MAX_MESSAGE, PING, Unframer, WorkerPipe, framed
from antiphon.providers.workers import Channel, RestartDelay


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 9))
@settings(max_examples=100)
def test_messages_survive_any_cutting(messages: list[bytes], step: int) -> None:
    stream = b"".join(map(framed, messages))
    unframer = Unframer()
    got = [message for at in range(0, len(stream), step) for message in unframer.feed(stream[at : at + step])]
    assert got == messages


def test_a_message_over_the_cap_is_refused() -> None:
    with pytest.raises(ValueError, match="over the cap"):
        list(Unframer().feed((MAX_MESSAGE + 1).to_bytes(4, "little")))


def test_the_worker_answers_pings_and_sees_the_end() -> None:
    server, sock = socket.socketpair()
    worker = WorkerPipe(sock)
    server.sendall(framed(b"one") + PING + framed(b"two"))
    assert worker.read(None) == [b"one", b"two"]
    assert server.recv(100) == PING
    assert worker.read(0) == []
    worker.send(b"reply")
    assert server.recv(100) == framed(b"reply")
    server.close()
    with pytest.raises(EOFError):
        worker.read(None)
    worker.close()


class Line:
    """A channel whose far end the test holds."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.messages: list[bytes] = []
        self.lost: list[str] = []
        self.channel = Channel(near, self.messages.append, self.lost.append)

    async def until_lost(self) -> str:
        for _ in range(500):
            if self.lost:
                return self.lost[0]
            await asyncio.sleep(0.01)
        raise TimeoutError

    def close(self) -> None:
        self.channel.close()
        self.far.close()


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TICK_S", 0.02)
    monkeypatch.setattr(workers, "START_TICKS", 2)


def test_what_is_sent_in_one_turn_goes_out_in_order_and_together() -> None:
    async def main() -> None:
        line = Line()
        line.channel.send(b"a")
        line.channel.send(b"b")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert line.far.recv(100) == framed(b"a") + framed(b"b")
        line.close()
        line.channel.send(b"late")  # no error, no effect

    asyncio.run(main())


def test_a_slow_reader_gets_everything_in_the_end() -> None:
    async def main() -> None:
        line = Line()
        payload = bytes(range(256)) * 4000
        line.channel.send(payload)
        got = bytearray()
        while len(got) < len(payload) + 4:
            await asyncio.sleep(0)
            try:
                got += line.far.recv(1 << 16)
            except BlockingIOError:
                continue
        assert bytes(got) == framed(payload)
        assert not line.lost
        line.close()

    asyncio.run(main())


def test_a_worker_that_never_reads_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_UNSENT", 1 << 16)

    async def main() -> None:
        line = Line()
        for _ in range(8):
            line.channel.send(bytes(500_000))
        assert await line.until_lost() == "does not read"
        line.close()

    asyncio.run(main())


def test_the_end_of_the_pipe_is_told_once() -> None:
    async def main() -> None:
        line = Line()
        line.far.sendall(framed(b"last words"))
        line.far.close()
        assert await line.until_lost() == "died"
        await asyncio.sleep(0.02)
        assert line.messages == [b"last words"]
        assert len(line.lost) == 1
        line.close()

    asyncio.run(main())


def test_a_mad_worker_is_lost() -> None:
    async def main() -> None:
        line = Line()
        line.far.sendall(b"\xff\xff\xff\xff")
        assert "over the cap" in await line.until_lost()
        line.close()

    asyncio.run(main())


@pytest.mark.usefixtures("quick_ticks")
def test_a_worker_without_pongs_hangs_and_one_with_pongs_lives() -> None:
    async def main() -> None:
        silent, alive = Line(), Line()
        for _ in range(400):
            await asyncio.sleep(0.005)
            try:
                if alive.far.recv(4096):
                    alive.far.sendall(PING)
            except BlockingIOError:
                continue
            if silent.lost:
                break
        assert silent.lost == ["hangs"]
        assert not alive.lost
        alive.close()
        silent.close()

    asyncio.run(main())


def test_restarts_in_a_row_wait_longer_and_a_healthy_life_starts_anew() -> None:
    delay = RestartDelay()
    waits = [delay.after(0.1) for _ in range(7)]
    assert waits == sorted(waits)
    assert waits[0] == 0.0
    assert waits[-1] == waits[-2] > 0
    assert delay.after(workers.HEALTHY_S) == 0.0
