"""One caller's ear at Sarvam: a task that takes the utterances one after the other.

Only one utterance is on the wire at a time, so every transcript that comes belongs to it; what the caller says
meanwhile waits, a few hundred milliseconds as a rule. An utterance keeps its audio until it is answered: if the
socket breaks, or no final comes, it is sent again as a whole over REST.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from antiphon.errors import ProviderError, ProviderRefused
from antiphon.media.codec import wav_write
from antiphon.media.resample import Resampler
from antiphon.providers.failures import failed
from antiphon.providers.http import Patience, Waits
from antiphon.providers.sarvam_http import SarvamHttp
from antiphon.providers.sarvam_wire import (
    MAX_AUDIO_S,
    HeardEvent,
    certainty,
    heard_language,
    standard_tag,
)
from antiphon.providers.stt.sarvam_link import Link
from antiphon.providers.stt.sarvam_settings import CHUNK_MS, SarvamTranscriberSettings
from antiphon.providers.stt.utterances import until
from antiphon.runtime.ports import Heard

log = logging.getLogger("antiphon.providers.stt.sarvam")

MAX_CHUNK_MS = 1000
"""What had to wait is sent in pieces of at most this."""

PING_S = 15.0
"""Between pings while nobody speaks; the endpoint closes after a minute without."""

MAX_WAITING = 16
"""Utterances that wait for their answers. More come only from a caller who finishes without speaking."""

HOPELESS = frozenset({"stt.unauthorized", "stt.quota"})
"""What REST would answer as well."""


class _Utterance:
    """Audio at the wire's rate, from ``dropped`` bytes on; ``sent`` counts from its very beginning."""

    __slots__ = (
        *("audio", "closed", "dropped", "ended", "error", "final", "language", "number", "pieces", "sent", "whole"),
    )

    def __init__(self, language: str) -> None:
        self.language = language
        self.audio = bytearray()
        self.dropped = 0
        self.sent = 0
        self.number = 0
        self.ended = False
        """The caller's part is over."""
        self.closed = False
        """The endpoint was told so."""
        self.whole = False
        """It began while the socket was being opened in vain, and will not wait for another."""
        self.error = ""
        self.pieces: list[str] = []
        """Finals that came while the caller still spoke: the endpoint cuts what is very long."""
        self.final: HeardEvent | None = None

    def add(self, pcm: bytes, keep: int) -> None:
        """Appends, and lets go of the oldest beyond ``keep`` bytes: what was said last matters most."""
        self.audio += pcm
        # In large strokes: a cut at each frame would move the whole of it fifty times a second.
        if len(self.audio) > keep + keep // 8:
            cut = len(self.audio) - keep
            del self.audio[:cut]
            self.dropped += cut
            self.sent = max(self.sent, self.dropped)

    @property
    def waiting(self) -> int:
        """Bytes not yet sent."""
        return self.dropped + len(self.audio) - self.sent

    def take(self, limit: int) -> bytes:
        begin = self.sent - self.dropped
        piece = bytes(self.audio[begin : begin + limit])
        self.sent += len(piece)
        return piece

    def text(self, last: str) -> str:
        return " ".join(piece for piece in (*self.pieces, last.strip()) if piece)


class SarvamStream:
    """See ``TranscriberStream``. ``task`` ends after ``close``."""

    def __init__(
        self,
        http: SarvamHttp,
        settings: SarvamTranscriberSettings,
        sample_rate: int,
        language: str,
        on_heard: Callable[[Heard], None],
    ) -> None:
        self._http = http
        self._settings = settings
        self._on_heard = on_heard
        self._language = language
        self._rate = 8_000 if sample_rate == 8_000 else 16_000
        self._per_ms = self._rate * 2 // 1000
        self._resampler = Resampler(sample_rate, self._rate)
        self._odd = False
        self._next_number = 1
        self._utterances = deque([_Utterance(language)])
        """In order; the last one is being fed."""
        self._now: _Utterance | None = None
        """The one on the wire."""
        self._link: Link | None = None
        self._batch_only = False
        """True once the endpoint has refused its socket to us, as it does without access to the model."""
        self._news = asyncio.Event()
        self._closed = False
        self.task = asyncio.get_running_loop().create_task(self._run())

    # -- the port ---------------------------------------------------------------------------------

    def feed(self, pcm: bytes) -> None:
        if self._closed or not pcm:
            return
        self._odd ^= bool(len(pcm) & 1)
        utterance = self._utterances[-1]
        if not utterance.audio:
            utterance.language = self._language
        utterance.add(self._resampler.process(pcm), MAX_AUDIO_S * 1000 * self._per_ms)
        if utterance.waiting >= CHUNK_MS * self._per_ms:
            self._news.set()

    def finish(self, utterance: int) -> None:
        if self._closed or utterance < self._next_number:
            return
        self._next_number = utterance + 1
        spoken = self._utterances[-1]
        # Half a sample at the end is made a whole one, so that the filter gives out all it holds.
        rest = self._resampler.process(b"\0" if self._odd else b"", last=True)
        self._odd = False
        spoken.add(rest, MAX_AUDIO_S * 1000 * self._per_ms)
        spoken.number, spoken.ended = utterance, True
        if len(self._utterances) > MAX_WAITING:
            spoken.audio.clear()
            spoken.error = "stt.overloaded"
        self._utterances.append(_Utterance(self._language))
        self._news.set()

    def hint(self, language: str) -> None:
        self._language = language

    def close(self) -> None:
        self._closed = True
        self.task.cancel()

    # -- the task ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._warm()
            while True:
                utterance = self._utterances[0]
                await self._idle(utterance)
                heard = await self._hear(utterance)
                self._utterances.popleft()
                self._tell(heard)
        finally:
            await self._drop()

    async def _warm(self) -> None:
        try:
            await self._linked(self._wire_language(self._language))
        except ProviderError as error:
            log.debug("sarvam: no socket yet: %s", error)  # the first utterance tries again, and says so if it fails
            self._batch_only = _final_word(error)
            first = self._utterances[0]
            first.whole = bool(first.audio)
            first.error = error.code if first.whole and error.code in HOPELESS else ""

    async def _idle(self, utterance: _Utterance) -> None:
        """Until somebody speaks; the session is kept from timing out."""
        chunk = CHUNK_MS * self._per_ms
        while not await until(self._news, lambda: utterance.ended or utterance.waiting >= chunk, PING_S):
            if self._link is not None:
                try:
                    await self._link.send("ping")
                except ProviderError as error:
                    log.debug("sarvam: the idle socket is gone: %s", error)
                    await self._drop()

    async def _hear(self, utterance: _Utterance) -> Heard:
        """The final or error of an utterance, which is waited for until it has ended."""
        error = ""
        try:
            spoken = utterance.audio or not utterance.ended
            if spoken and not self._batch_only and not utterance.whole:
                try:
                    return await self._streamed(utterance)
                except ProviderError as fault:
                    await self._drop()
                    log.warning("sarvam: the socket failed: %s", fault, extra={"code": fault.code})
                    self._batch_only = _final_word(fault)
                    error = fault.code if fault.code in HOPELESS else ""
            await until(self._news, lambda: utterance.ended)
            error = error or utterance.error
            if not error:
                return await self._sent_whole(utterance) if utterance.audio else self._heard(utterance, "")
        except ProviderError as fault:
            error = fault.code
        except Exception:  # a fault of ours must not leave the caller waiting, nor end the ear of this call
            log.exception("sarvam: an utterance could not be transcribed")
            await self._drop()
            await until(self._news, lambda: utterance.ended)
            error = "stt.failed"
        return Heard(utterance=utterance.number, text="", final=True, error=error)

    async def _streamed(self, utterance: _Utterance) -> Heard:
        language = self._wire_language(utterance.language)
        chunk = CHUNK_MS * self._per_ms
        link = await self._linked(language)
        if link.language != language:
            await link.change_language(language)
        await link.send("speech_start")
        self._now = utterance
        try:
            while not utterance.ended or utterance.waiting:
                if piece := utterance.take(MAX_CHUNK_MS * self._per_ms):
                    await link.send_audio(piece)
                await until(self._news, lambda: utterance.ended or utterance.waiting >= chunk or link.lost is not None)
                if link.lost is not None:
                    raise link.lost
            await link.send("speech_end")
            utterance.closed = True
            if not await until(self._news, lambda: utterance.final or link.lost, self._settings.final_s):
                raise failed(f"no final within {self._settings.final_s:g} s", "timeout_total", "sarvam", "stt")
            if utterance.final is None:
                raise link.lost or failed("the session is over", "cut", "sarvam", "stt")
        finally:
            self._now = None
        told = utterance.final
        return self._heard(utterance, told.text or "", told.language, told.language_confidence, link.language)

    async def _sent_whole(self, utterance: _Utterance) -> Heard:
        """Raises ``ProviderError``."""
        settings = self._settings
        language = heard_language(self._wire_language(utterance.language)) or "unknown"
        waits = Waits(first_s=settings.batch_s, between_s=settings.batch_s, total_s=settings.batch_s)
        answer = await self._http.transcribe(
            f"{settings.base_url.rstrip('/')}/speech-to-text",
            wav_write(bytes(utterance.audio[-MAX_AUDIO_S * 1000 * self._per_ms :]), self._rate),
            content_type="audio/wav",
            fields={"model": settings.batch_model, "mode": settings.mode, "language_code": language},
            patience=Patience(waits, "sarvam", "stt"),
        )
        utterance.pieces.clear()
        return self._heard(utterance, answer.transcript, answer.language_code, answer.language_probability, language)

    # -- the wire ---------------------------------------------------------------------------------

    async def _linked(self, language: str) -> Link:
        """The open session, or a new one. Raises ``ProviderError``."""
        if self._link is not None and self._link.lost is not None:
            await self._drop()
        if self._link is None:
            self._link = await Link.open(self._http, self._settings, self._rate, language, self._on_event)
        return self._link

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _on_event(self, event: HeardEvent | None) -> None:
        self._news.set()
        utterance = self._now
        if event is None or utterance is None:
            return
        if event.event == "transcript.final":
            if utterance.closed:
                utterance.final = utterance.final or event
                return
            utterance.pieces.append((event.text or "").strip())
        text = utterance.text(event.text or "" if event.event == "transcript.partial" else "")
        # What the kernel has not finished yet is the next that it will finish.
        number = utterance.number or self._next_number
        if text and not utterance.final:
            self._tell(Heard(utterance=number, text=text, language=standard_tag(event.language)))

    def _tell(self, heard: Heard) -> None:
        try:
            if not self._closed:
                self._on_heard(heard)
        except Exception:  # what the call makes of a report must not end its ear
            log.exception("sarvam: a report could not be taken")

    def _heard(
        self,
        utterance: _Utterance,
        text: str,
        language: str | None = None,
        probability: float | None = None,
        told: str = "",
    ) -> Heard:
        """``told``: the language that was asked for, where the answer names none."""
        tag = standard_tag(language or ("" if told in {"auto", "unknown"} else told))
        return Heard(
            utterance=utterance.number,
            text=utterance.text(text),
            final=True,
            language=tag,
            language_confidence=certainty(probability) if language and tag else 0.0,
        )

    def _wire_language(self, hinted: str) -> str:
        setting = self._settings.language
        tag = hinted if setting == "hint" else setting
        return heard_language(tag, odia="or-IN") or "auto"


def _final_word(error: ProviderError) -> bool:
    """True if the endpoint refuses the session itself, so that another try would be refused too."""
    return isinstance(error, ProviderRefused) and error.code not in HOPELESS
