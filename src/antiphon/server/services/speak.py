"""Speech as a service: ``POST /synthesize``, streamed as it is spoken.

The answer begins with the first sound, so that a voice which cannot speak is a status and not a broken stream. A client
that goes away ends the voice's work: that is how an interruption reaches it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from antiphon.errors import AntiphonError
from antiphon.providers.service_wire import LINES, PCM, PLACES, Fault, SoundLine, SynthesizeRequest
from antiphon.runtime.ports import Sound, Synthesizer
from antiphon.server.services.door import Door, answered
from antiphon.server.services.routes import as_response, read, while_wanted

log = logging.getLogger("antiphon.services")


def speaking(voice: Synthesizer, door: Door) -> APIRouter:
    router = APIRouter()

    @router.post(PLACES["tts"].path)
    async def synthesize(request: Request) -> Response:
        try:
            door.check(request.headers)
            asked = await read(request, SynthesizeRequest)
        except AntiphonError as error:
            return as_response(answered(error))
        return _Speech(voice, door, asked, marked=LINES in request.headers.get("accept", ""))

    return router


class _Speech(Response):
    """One text, spoken to one client. ``marked``: with the times of words."""

    def __init__(self, voice: Synthesizer, door: Door, asked: SynthesizeRequest, *, marked: bool) -> None:
        super().__init__()
        self._voice = voice
        self._door = door
        self._asked = asked
        self._marked = marked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._door.enter()
        try:
            await while_wanted(receive, self._speak(scope, receive, send))
        finally:
            self._door.leave()

    async def _speak(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._asked
        sounds = self._voice.synthesize(asked.text, language=asked.language, sample_rate=asked.rate, voice=asked.voice)
        async with aclosing(sounds):
            try:
                first = await anext(sounds, None)
            except AntiphonError as error:
                await as_response(answered(error))(scope, receive, send)
                return
            kind = f"{LINES if self._marked else PCM}; rate={asked.rate}"
            headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if first is not None and await self._send(first, sounds, send):
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, first: Sound, sounds: AsyncGenerator[Sound, None], send: Send) -> bool:
        """True if the voice broke off and the stream may not end as if it were whole."""
        sound: Sound | None = first
        while sound is not None:
            await send({"type": "http.response.body", "body": self._encoded(sound), "more_body": True})
            try:
                sound = await anext(sounds, None)
            except AntiphonError as error:
                log.warning("a text broke off: %s", error)
                if not self._marked:
                    return True  # without its last chunk: the client sees that the connection broke
                fault = SoundLine(error=Fault(error.code, "the voice broke off"))
                await send({"type": "http.response.body", "body": _line(fault), "more_body": True})
                return False
        return False

    def _encoded(self, sound: Sound) -> bytes:
        if not self._marked:
            return sound.pcm
        return _line(SoundLine(sound.pcm, tuple((word.char, word.sample) for word in sound.words)))


def _line(line: SoundLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
