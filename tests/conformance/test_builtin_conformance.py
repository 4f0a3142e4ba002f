"""Every built-in provider, the phone line and the voice detector against the kits for their ports."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orchestrate_fakes
import pytest
from loopback_openai import KEY, Loopback, serving
from twilio_fakes import STOP, Rig, media

from antiphon.conformance import KITS, Kit, Result, Sample, examine, line, report, run, voice_activity
from antiphon.conformance.voice import made_up_voice
from antiphon.providers.registry import BUILT_IN, load
from antiphon.providers.retrieval import embedding
from antiphon.runtime.ports import Line, Switchboard
from antiphon.runtime.vad import SileroActivity
from antiphon.secret import Secret
from antiphon.stores.memory import MemoryJournal

SHORT = Sample(speech=made_up_voice(syllables=2))
OF_THEIR_OWN = {
    ("stt", "pocketsphinx"),
    ("llm", "openai"),
    ("tts", "espeak"),
    ("stt", "sarvam"),
    ("tts", "sarvam"),
    ("llm", "gemini"),
    ("tts", "piper"),
    ("tts", "elevenlabs"),
    ("stt", "whisper"),
    ("stt", "faster_whisper"),
    ("stt", "livekit"),
    ("llm", "livekit"),
    ("tts", "livekit"),
    *((kind, "http") for kind in ("stt", "intent", "retrieval", "tts")),
}
"""They need a key, a voice's file, processes or a service: below, or their own tests, run their kits."""
PROVIDERS = [(kind, name) for kind, names in BUILT_IN.items() for name in names if (kind, name) not in OF_THEIR_OWN]


class Kept:
    """A started provider that is not started and closed again by each check: processes take a third of a second."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)


def passed(results: list[Result]) -> bool:
    print(report(results))
    return bool(results) and all(result.passed for result in results)


def run_kept(kit: Kit[Any], make: Callable[[], Any], sample: Sample) -> list[Result]:
    """All checks on one provider, and those that close it on new ones as well."""

    async def main() -> list[Result]:
        provider = make()
        await provider.start()
        try:
            results = await examine(kit, lambda: Kept(provider), sample)
        finally:
            await provider.close()
        closing = tuple(check for check in kit.checks if "close" in check.__name__ or "closing" in check.__name__)
        return results + await examine(Kit(kit.port, closing), make, sample)

    return asyncio.run(main())


@pytest.mark.parametrize(("kind", "name"), PROVIDERS)
def test_built_in_providers_conform(kind: Any, name: str) -> None:
    async def main() -> list[Result]:
        if name != "minilm" or embedding.available():
            return await examine(KITS[kind], lambda: load(kind, name), SHORT)
        model = embedding.shared()  # one more user, so that the worker is not started for each check
        await model.start()
        try:
            return await examine(KITS[kind], lambda: load(kind, name), SHORT)
        finally:
            await model.close()

    assert passed(asyncio.run(main()))


def test_pocketsphinx_conforms(tmp_path: Path) -> None:
    settings = {"phrases": ["What are the fees?"], "background_words": 50, "cache": str(tmp_path), "workers": 1}
    assert passed(run_kept(KITS["stt"], lambda: load("stt", "pocketsphinx", settings), SHORT))


HINDI = Sample(
    language="hi-IN",
    short="हाँ।",
    long="प्रवेश के लिए स्नातक की डिग्री, दो सिफ़ारिशी पत्र और अंग्रेज़ी का प्रमाणपत्र चाहिए।",
)


@pytest.mark.parametrize("sample", [Sample(), HINDI], ids=lambda sample: sample.language)
def test_espeak_conforms(sample: Sample) -> None:
    assert passed(run_kept(KITS["tts"], lambda: load("tts", "espeak"), sample))


@pytest.mark.parametrize("token_s", [0.0, 0.001])
def test_the_openai_responder_conforms(token_s: float) -> None:
    async def main() -> list[Result]:
        async with serving(Loopback()) as loopback:
            loopback.token_s = token_s
            settings = {"base_url": loopback.base_url, "model": "test", "api_key": Secret(KEY)}
            return await examine(KITS["llm"], lambda: load("llm", "openai", settings))

    assert passed(asyncio.run(main()))


def test_silero_conforms() -> None:
    assert passed(run(voice_activity.KIT, SileroActivity))


def test_the_memory_journal_conforms() -> None:
    assert passed(run(KITS["journal"], MemoryJournal))


class TwilioFarEnd:
    """Twilio's side of a media stream, over the stub socket of the line's own tests."""

    def __init__(self) -> None:
        self._rig = Rig()
        self._seq = 1
        self._gone = False

    async def connect(self, switchboard: Switchboard) -> Line:
        self._rig.line._switchboard = switchboard
        self._rig.begin()
        return self._rig.line

    async def settle(self) -> None:
        self._rig.sweep.pass_time(1.0)

    def received(self) -> list[line.Sent]:
        return [_decoded(message) for message in self._rig.socket.sent]

    def speak(self, audio: bytes) -> None:
        self._give(lambda seq: media(seq, audio))

    def played(self, mark: str) -> None:
        self._give(lambda seq: {**_envelope("mark", seq), "mark": {"name": mark}})

    def press(self, digit: str) -> None:
        self._give(lambda seq: {**_envelope("dtmf", seq), "dtmf": {"track": "inbound_track", "digit": digit}})

    def hang_up(self) -> None:
        self._give(lambda seq: {**STOP, "sequenceNumber": str(seq)})

    def drop(self) -> None:
        if not self._gone:
            self._gone = self._rig.socket.closing = True
            self._rig.lose()

    async def close(self) -> None:
        self.drop()
        assert len(self._rig.sweep) == 0

    def _give(self, message: Callable[[int], dict[str, Any]]) -> None:
        self._seq += 1
        if not self._gone:
            self._rig.give(message(self._seq))


def _envelope(event: str, seq: int) -> dict[str, Any]:
    return {"event": event, "sequenceNumber": str(seq), "streamSid": STOP["streamSid"]}


def _decoded(message: dict[str, Any]) -> line.Sent:
    if message["event"] == "media":
        return "audio", base64.b64decode(message["media"]["payload"])
    return (message["event"], message["mark"]["name"] if message["event"] == "mark" else "")


def test_the_twilio_line_conforms() -> None:
    assert passed(run(line.KIT, TwilioFarEnd))


class OrchestrateFarEnd:
    """A client of /orchestrate, over the stub socket of the line's own tests."""

    def __init__(self, query: str) -> None:
        self._rig = orchestrate_fakes.Rig(query, connected=False)
        self._gone = False

    async def connect(self, switchboard: Switchboard) -> Line:
        self._rig.line._switchboard = switchboard  # type: ignore[assignment]
        self._rig.line.on_ws_connected(self._rig.socket)
        return self._rig.line

    async def settle(self) -> None:
        self._rig.sweep.pass_time(1.0)

    def received(self) -> list[line.Sent]:
        return [_told(message) for message in self._rig.socket.sent]

    def speak(self, audio: bytes) -> None:
        self._give(audio)

    def played(self, mark: str) -> None:
        self._give({"type": "mark", "name": mark})

    def press(self, digit: str) -> None:
        self._give({"type": "key", "digit": digit})

    def hang_up(self) -> None:
        self._give({"type": "end"})

    def drop(self) -> None:
        if not self._gone:
            self._gone = self._rig.socket.closing = True
            self._rig.lose()

    async def close(self) -> None:
        self.drop()
        assert len(self._rig.sweep) == 0

    def _give(self, message: object) -> None:
        if not self._gone:
            self._rig.give(message)


def _told(message: bytes | dict[str, Any]) -> line.Sent:
    if isinstance(message, bytes):
        return "audio", message
    if message["type"] == "audio":
        return "audio", base64.b64decode(message["data"])
    return message["type"], message.get("name", "")


@pytest.mark.parametrize("query", ["rate=8000&marks=1", "rate=48000", "audio=base64&rate=24000&marks=1"])
def test_the_orchestrate_line_conforms(query: str) -> None:
    assert passed(run(line.KIT, lambda: OrchestrateFarEnd(query)))
