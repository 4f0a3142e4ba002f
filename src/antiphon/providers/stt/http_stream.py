"""One caller's ear at a service: a task that sends what is said, and one that reads what was heard.

What a broken socket leaves unanswered ends in an error at once, and the utterance being spoken does so before its end:
whoever keeps the audio (``runtime.hearing``) has it heard elsewhere, from its beginning. The next utterance opens
another socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from antiphon.errors import UNUSABLE, ProviderError
from antiphon.kernel.events import MAX_TEXT
from antiphon.providers.failures import failed
from antiphon.providers.service_client import ServiceClient
from antiphon.providers.service_wire import (
    CHUNK_MS,
    MAX_AUDIO_BYTES,
    MAX_TAG,
    PING_S,
    PLACES,
    Expect,
    FinalHeard,
    Finish,
    FromEar,
    NotHeard,
    PartialHeard,
    Ping,
)
from antiphon.providers.stt.utterances import Owed, until
from antiphon.providers.websocket import Socket, connect
from antiphon.runtime.ports import Heard

log = logging.getLogger("antiphon.providers.stt.http")

MAX_UNSENT_S = 60
"""Audio that waits for a service which does not take it; more of it, and the service is given up. An utterance that is
told again comes at once, and has up to half of this."""

MAX_MESSAGE_BYTES = 64 * 1024

_heard = msgspec.json.Decoder(FromEar)


class _Ended(msgspec.Struct):
    """An utterance is over: ``number`` is the call's for it."""

    number: int


class HttpStream:
    """See ``TranscriberStream``. ``task`` ends after ``close``."""

    def __init__(
        self,
        client: ServiceClient,
        sample_rate: int,
        language: str,
        on_heard: Callable[[Heard], None],
        *,
        connect_s: float,
        final_s: float,
    ) -> None:
        self._client = client
        self._rate = sample_rate
        self._language = language
        self._connect_s = connect_s
        self._final_s = final_s
        self._owed = Owed(on_heard)
        self._due: deque[float] = deque()
        """By the loop's clock, when the finals that are owed have to be there."""
        self._chunk = CHUNK_MS * sample_rate // 1000 * 2
        self._pcm = bytearray()
        self._out: deque[bytes | _Ended | Expect] = deque()
        self._unsent = 0
        self._most = MAX_UNSENT_S * sample_rate * 2
        self._is_flooded = False
        """More was fed than the service takes, and the utterance has a hole."""
        self._is_speaking = False
        """Something of the present utterance was fed."""
        self._is_lost = False
        """The present utterance had its error, and what is left of it is not sent."""
        self._numbers: list[int] = []
        """The call's numbers of the utterances that were finished on this socket, in order."""
        self._socket: Socket | None = None
        self._fault: ProviderError | None = None
        """Why the socket is over."""
        self._news = asyncio.Event()
        self._closed = False
        self.task = asyncio.get_running_loop().create_task(self._run())

    # -- the port -----------------------------------------------------------------------------------

    def feed(self, pcm: bytes) -> None:
        if self._closed or not pcm or self._is_lost:
            return
        self._is_speaking = True
        if self._unsent + len(pcm) > self._most:
            self._is_flooded = True
            self._news.set()
            return
        self._pcm += pcm
        self._unsent += len(pcm)
        if len(self._pcm) >= self._chunk:
            self._flush()

    def finish(self, utterance: int) -> None:
        if self._closed or utterance < self._owed.next:
            return
        if self._is_lost:
            self._owed.next = utterance + 1
            self._is_lost = self._is_speaking = False
            return
        self._flush(whole=True)
        self._owed.owe(utterance)
        self._due.append(asyncio.get_running_loop().time() + self._final_s)
        self._is_speaking = False
        self._out.append(_Ended(utterance))
        self._news.set()

    def hint(self, language: str) -> None:
        if self._closed or language == self._language:
            return
        self._language = language
        self._flush()
        self._out.append(Expect(language[:MAX_TAG]))
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._owed.close()
        self.task.cancel()

    def _flush(self, *, whole: bool = False) -> None:
        """What was fed goes out in whole samples; half a one at the ``whole`` utterance's end goes nowhere."""
        cut = len(self._pcm) & ~1
        for at in range(0, cut, MAX_AUDIO_BYTES):
            self._out.append(bytes(self._pcm[at : min(cut, at + MAX_AUDIO_BYTES)]))
        if whole:
            self._unsent -= len(self._pcm) - cut
            self._pcm.clear()
        else:
            del self._pcm[:cut]
        self._news.set()

    # -- the task -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        receiving: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    if self._socket is None:
                        self._socket = await self._connected()
                        receiving = asyncio.create_task(self._receive(self._socket))
                    await self._carry(self._socket)
                except ProviderError as fault:
                    await self._drop(receiving)
                    receiving = None
                    self._fail(fault)
                except Exception:  # a fault of ours must not leave the caller waiting
                    log.exception("http: an utterance could not be heard")
                    await self._drop(receiving)
                    receiving = None
                    self._fail(failed("the stream broke", "failed", "http", "stt"))
                await until(self._news, lambda: self._out)
        finally:
            await self._drop(receiving)

    async def _connected(self) -> Socket:
        """Raises ``ProviderError``."""
        client, seconds = self._client, self._connect_s
        query = urlencode({"rate": self._rate, "language": self._language[:MAX_TAG].encode("utf-8", "replace")})
        socket = await connect(
            client.session.use(),
            f"ws{client.base_url.removeprefix('http')}{PLACES['stt'].path}?{query}",
            {},
            client.patience(2 * seconds, seconds, 2 * seconds),  # what ends it is ``connect_s``
            provider="http",
            stage="stt",
            connect_s=seconds,
            key=client.key,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        self._numbers.clear()
        self._fault = None
        return socket

    async def _carry(self, socket: Socket) -> None:
        """Sends what there is until the socket is over, and says that it is still wanted where there is nothing.

        Raises ``ProviderError``; returns if it is over and nobody was waiting for it.
        """
        while self._fault is None:
            if self._is_flooded:
                raise failed("the service takes no audio", "overloaded", "http", "stt")
            if not self._out:
                await until(self._news, lambda: self._out or self._fault or self._is_flooded, self._wait_s())
            if self._fault is None and self._due and asyncio.get_running_loop().time() >= self._due[0]:
                raise failed(f"no final within {self._final_s:g} s", "timeout_total", "http", "stt")
            if self._fault is None:
                await self._send(socket, self._out.popleft() if self._out else Ping())
        if len(self._owed) or self._is_speaking or self._out:
            raise self._fault
        log.debug("http: the idle socket is gone: %s", self._fault)
        await socket.close()
        self._socket = None

    async def _send(self, socket: Socket, what: bytes | _Ended | Expect | Ping) -> None:
        patience = self._client.patience(self._final_s, self._final_s, self._final_s)
        if isinstance(what, bytes):
            await socket.send(what, patience)
            self._unsent -= len(what)
        elif isinstance(what, _Ended):
            self._numbers.append(what.number)
            await socket.send(msgspec.json.encode(Finish(len(self._numbers))).decode(), patience)
        else:
            await socket.send(msgspec.to_builtins(what), patience)

    async def _receive(self, socket: Socket) -> None:
        try:
            while (message := await socket.receive()) is not None:
                self._take(message)
            self._fault = socket.ending(self._client.key)
        except ProviderError as fault:
            self._fault = fault
        finally:
            self._news.set()

    def _take(self, message: str | bytes) -> None:
        """Raises ``ProviderError`` for what is no report."""
        try:
            told = _heard.decode(message)
        except UNUSABLE as error:
            raise self._client.garbage(str(error)) from None
        is_finished = told.utterance <= len(self._numbers)
        number = self._numbers[told.utterance - 1] if is_finished else self._owed.next
        if isinstance(told, NotHeard) and not is_finished:
            text = "the service gave an utterance up before its end"
            raise ProviderError(text, provider="http", stage="stt", code=told.code)
        if isinstance(told, NotHeard):
            self._end(Heard(number, "", error=told.code))
        elif isinstance(told, FinalHeard) and is_finished:
            heard = Heard(
                number,
                told.text[:MAX_TEXT],
                final=True,
                language=told.language,
                confidence=told.confidence,
                language_confidence=told.language_confidence,
            )
            self._end(heard)
        elif isinstance(told, PartialHeard) and told.utterance <= len(self._numbers) + 1 and not self._is_lost:
            self._tell(Heard(number, told.text[:MAX_TEXT], language=told.language, confidence=told.confidence))

    def _end(self, heard: Heard) -> None:
        """A second end of an utterance is nobody's."""
        if heard.utterance in self._owed.numbers():
            if self._due:
                self._due.popleft()
            self._report(self._owed.end, heard)

    def _tell(self, heard: Heard) -> None:
        self._report(self._owed.partial, heard)

    def _report(self, tell: Callable[[Heard], None], heard: Heard) -> None:
        try:
            tell(heard)
        except Exception:  # what the call makes of a report must not end its ear
            log.exception("http: a report could not be taken")

    def _fail(self, fault: ProviderError) -> None:
        """All that was said and not answered ends in an error; what is being said, too."""
        if len(self._owed) or self._is_speaking:
            log.warning("http: hearing failed: %s", fault, extra={"code": fault.code})
        self._pcm.clear()
        self._out.clear()
        self._due.clear()
        self._unsent = 0
        self._is_flooded = False
        for number in self._owed.numbers():
            self._report(self._owed.end, Heard(number, "", error=fault.code))
        if self._is_speaking and not self._closed:
            self._is_lost = True
            self._report(self._owed.end, Heard(self._owed.next, "", error=fault.code))

    async def _drop(self, receiving: asyncio.Task[None] | None) -> None:
        socket, self._socket = self._socket, None
        if receiving is not None:
            receiving.cancel()
            await asyncio.wait({receiving})
        if socket is not None:
            await socket.close()

    def _wait_s(self) -> float:
        due = self._due[0] - asyncio.get_running_loop().time() if self._due else PING_S
        return min(PING_S, max(0.0, due))
