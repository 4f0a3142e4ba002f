"""Warm sockets that serve one text after another, each as a context of its own.

A context is opened with all its text, told to flush and told to close: "if it has already been set to flush it will
continue flushing", and only a context that was closed says when its sound is over (``isFinal``). Nothing can be taken
back from the vendor after that, nor need it be: a text that is given up comes to its end within a fraction of its
length, unheard. Its context counts until then. The vendor allows five at once and closes the connection on a sixth,
so those that are closing are counted as well; that is where other clients fail under quick interruptions.

Import it where a connection is made: aiohttp takes 135 ms to load.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator

import aiohttp

from antiphon.errors import UNUSABLE, ProviderError
from antiphon.providers.failures import Failure, closed, error_for, failed
from antiphon.providers.http import Patience
from antiphon.providers.tts.elevenlabs_settings import INACTIVITY_S, Endpoint, Manner
from antiphon.providers.tts.elevenlabs_wire import Message, decode
from antiphon.providers.websocket import Socket, connect

log = logging.getLogger("antiphon.providers.tts.elevenlabs")

PROVIDER = "elevenlabs"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""A message may hold a whole sentence: a minute of PCM at 24 kHz as base64 is 3.8 MB."""

IDLE_S = INACTIVITY_S - 30.0
"""An idle connection is closed before the vendor does: a text would be lost in the race."""

UNHEARD_S = 5.0
"""A context that was given up and is not at its end by then keeps its socket from being used again."""

MAX_AUDIO_BYTES = 16 * 1024 * 1024
"""Of one text: five minutes at 24 kHz."""


class NotOpened(Exception):
    """No socket could be opened, for the reason that ``error`` gives."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(str(error))
        self.error = error


class Context:
    """One text's sound on its way."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.overdue: asyncio.TimerHandle | None = None
        self.given_up = False
        self.begun = False
        """Something came for it."""
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._error: ProviderError | None = None
        self._news: asyncio.Future[None] | None = None

    def put(self, message: Message) -> None:
        self.begun = True
        if self.given_up:
            return
        self._bytes += len(message.audio or b"")
        if self._bytes > MAX_AUDIO_BYTES:
            self.fail(failed("a text has over five minutes of sound", "too_large", PROVIDER, "tts"))
        else:
            self._messages.append(message)
            self._tell()

    def fail(self, error: ProviderError) -> None:
        self._error = error
        self._tell()

    async def next(self) -> Message:
        """Raises ``ProviderError`` once what came before it was taken."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._messages.popleft()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Link:
    """One socket, read by a task of its own because several contexts share it."""

    def __init__(self, socket: Socket, manner: Manner, endpoint: Endpoint) -> None:
        self.manner = manner
        self.contexts: dict[str, Context] = {}
        self.used = 0
        """Texts it was given."""
        self.usable = True
        self._socket = socket
        self._endpoint = endpoint
        self._reader = asyncio.get_running_loop().create_task(self._read())
        self._idle: asyncio.TimerHandle | None = None
        self._rest()

    @property
    def live(self) -> bool:
        """Somebody listens to one of its contexts."""
        return any(not context.given_up for context in self.contexts.values())

    async def open(self, text: str, patience: Patience) -> Context:
        """Gives it a text. Raises ``ProviderError``."""
        self.used += 1
        context = Context(f"s{self.used}")
        self.contexts[context.id] = context
        if self._idle is not None:
            self._idle.cancel()
        try:
            await self._socket.send(self._endpoint.first_message(context.id), patience)
            # The space says that the last word is whole.
            await self._socket.send({"text": f"{text} ", "context_id": context.id, "flush": True}, patience)
            await self._socket.send({"context_id": context.id, "close_context": True}, patience)
        except BaseException:
            # Half a context is not known to be closed, and another text must not go into it.
            self.usable = False
            self.give_up(context)
            raise
        return context

    def give_up(self, context: Context) -> None:
        """Nobody listens any more. What still comes for it is dropped."""
        context.given_up = True
        if context.id not in self.contexts:
            return
        if not self.usable and not self.live:
            self._reader.cancel()
            return
        context.overdue = asyncio.get_running_loop().call_later(UNHEARD_S, self._overdue, context)

    async def close(self) -> None:
        """What is under way raises ``ProviderError`` (``closed``). No task and no timer is left."""
        self.usable = False
        self._fail(closed(PROVIDER, "tts"))
        self._reader.cancel()
        await asyncio.wait({self._reader})

    @property
    def over(self) -> bool:
        return self._reader.done()

    async def _read(self) -> None:
        try:
            while (received := await self._socket.receive()) is not None:
                self._take(received)
                if not self.usable and not self.live:
                    return
            self._fail(self._socket.ending(self._endpoint.key))
        except ProviderError as error:
            self._fail(error)
        finally:
            self.usable = False
            if self._idle is not None:
                self._idle.cancel()
            self._fail(failed("the connection was given up", "cut", PROVIDER, "tts"))
            await self._socket.close()

    def _take(self, received: str | bytes) -> None:
        """Raises ``ProviderError`` for what ends the connection."""
        try:
            message = decode(received)
        except UNUSABLE:
            text = "the endpoint sent something that is no message of its protocol"
            raise failed(text, "garbage", PROVIDER, "tts") from None
        if message.error:
            said = Failure(message.message or message.error, f"{message.error} {message.code or ''}".lower())
            raise _refusal(said.without(self._endpoint.key))
        context = self.contexts.get(message.context)
        if context is None:
            return
        if message.final:
            del self.contexts[message.context]
            if context.overdue is not None:
                context.overdue.cancel()
            if not self.contexts:
                self._rest()
        context.put(message)

    def _fail(self, error: ProviderError) -> None:
        contexts, self.contexts = self.contexts, {}
        for context in contexts.values():
            if context.overdue is not None:
                context.overdue.cancel()
            context.fail(error)

    def _rest(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._reader.cancel)

    def _overdue(self, context: Context) -> None:
        if context.id in self.contexts:
            log.debug("elevenlabs: a text that was given up does not end: its connection is not used again")
            self.usable = False
            if not self.live:
                self._reader.cancel()


def _refusal(said: Failure) -> ProviderError:
    """The error for an error message. What was too much, and not wrong, may be tried again."""
    if any(each in said.code for each in ("max_active", "concurrent", "rate_limit", "busy")):
        return error_for(429, said, PROVIDER, "tts")
    if any(each in said.code for each in ("internal", "1011", "unavailable")):
        return error_for(500, said, PROVIDER, "tts")
    if "not_found" in said.code:
        return error_for(404, said, PROVIDER, "tts")
    return error_for(400, said, PROVIDER, "tts")


class Sockets:
    """All sockets of one synthesizer: at most ``most``, ``contexts`` texts at once on each."""

    def __init__(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, *, connect_s: float, contexts: int, most: int
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._connect_s = connect_s
        self._contexts = contexts
        self._most = most
        self._links: list[Link] = []
        self._opening = 0
        self.closed = False

    async def speak(self, manner: Manner, text: str, patience: Patience) -> AsyncGenerator[Message, None]:
        """The messages of one text, up to its end; closing the iterator gives the text up.

        Raises ``NotOpened`` where no socket can be had, and ``ProviderError``.
        """
        link = await self._link(manner, patience)
        warm = link.used > 0
        try:
            context = await link.open(text, patience)
        except ProviderError as error:
            if not warm or error.code != "tts.cut":
                raise
            link, warm = await self._open(manner, patience), False
            context = await link.open(text, patience)
        try:
            try:
                message = await patience.wait(context.next())
            except ProviderError as error:
                if not warm or context.begun or error.code not in {"tts.cut", "tts.server"} or self.closed:
                    raise
                # It was closed while nobody used it: a new one is not.
                link = await self._open(manner, patience)
                context = await link.open(text, patience)
                message = await patience.wait(context.next())
            while not message.final:
                yield message
                message = await patience.wait(context.next())
            yield message
        except ProviderError as error:
            if error.code.startswith("tts.timeout"):
                link.usable = False  # connected, but nothing comes: the next text is not given to it
            raise
        finally:
            link.give_up(context)

    async def close(self) -> None:
        """No connection is left. What is under way raises ``ProviderError``."""
        self.closed = True
        links, self._links = self._links, []
        await asyncio.gather(*(link.close() for link in links))

    async def _link(self, manner: Manner, patience: Patience) -> Link:
        """The one with the fewest texts under way, or a new one."""
        self._links = [link for link in self._links if not link.over]
        fitting = [
            link
            for link in self._links
            # One that was given no text yet is about to get that of whoever opened it.
            if link.usable and link.used and link.manner == manner and len(link.contexts) < self._contexts
        ]
        if fitting:
            return min(fitting, key=lambda link: len(link.contexts))
        return await self._open(manner, patience)

    async def _open(self, manner: Manner, patience: Patience) -> Link:
        if self.closed:
            raise closed(PROVIDER, "tts")
        if len(self._links) + self._opening >= self._most:
            await self._make_room()
        self._opening += 1
        try:
            socket = await connect(
                self._session,
                self._endpoint.socket_url(manner),
                {},
                patience,
                provider=PROVIDER,
                stage="tts",
                connect_s=self._connect_s,
                key=self._endpoint.key,
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
        except ProviderError as error:
            raise NotOpened(error) from None
        finally:
            self._opening -= 1
        link = Link(socket, manner, self._endpoint)
        self._links.append(link)
        await asyncio.sleep(0)  # its reader begins, and from here on closes the socket whatever happens
        if self.closed:
            await link.close()
            raise closed(PROVIDER, "tts")
        return link

    async def _make_room(self) -> None:
        """Closes an idle connection of another manner. Raises ``ProviderError`` if all are busy."""
        idle = next((link for link in self._links if not link.contexts), None)
        if idle is None:
            raise failed(f"all {self._most} connections are busy", "rate_limited", PROVIDER, "tts")
        self._links.remove(idle)
        await idle.close()
