"""The quick-start guide, done: a server as somebody has it, and the same one with its three steps (A5).

Both are real FastAPI applications that are called over a real socket; only the provider object is a test's.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from guide_call import Call, served
from websockets.asyncio.client import connect

from antiphon.audio_utils import wav_to_mulaw
from antiphon.conformance.voice import made_up_voice
from antiphon.media.codec import mulaw_encode, wav_read, wav_write
from antiphon.providers.tts.fake import tone

GUIDE = Path(__file__).parent / "guide"
QUESTION = mulaw_encode(made_up_voice(3))
ANSWER = wav_write(tone(8000, 2400), 8000)
"""0.3 s."""


class Sarvam:
    """Stands where the guide has its API client, and keeps what it was asked."""

    def __init__(self, **blank: int) -> None:
        self._blank = blank
        """How often a stage gives back nothing at first."""
        self.asked: list[tuple[str, Any]] = []
        self.speaks = threading.Event()

    def _fails(self, stage: str) -> bool:
        self._blank[stage] = self._blank.get(stage, 0) - 1
        return self._blank[stage] >= 0

    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        pcm, rate = wav_read(audio_bytes)
        self.asked.append(("stt", (language, round(len(pcm) / 2 / rate, 1))))
        return ("", None) if self._fails("stt") else ("what are the fees", language)

    async def chat(self, messages: list[dict[str, str]]) -> str:
        self.asked.append(("llm", messages))
        return "Ninety thousand rupees."

    async def text_to_speech(self, text: str, language: str) -> bytes:
        self.asked.append(("tts", (text, language)))
        self.speaks.set()
        return b"" if self._fails("tts") else ANSWER


def server(name: str, provider: Sarvam) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"guide_{name}", GUIDE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.sarvam = provider  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_caller_is_answered(name: str) -> None:
    sarvam = Sarvam()
    module = server(name, sarvam)
    module.call_language_map["CA1"] = "te-IN"

    async def call(address: str) -> Any:
        async with Call(address) as caller:
            await caller.bother()
            await caller.say(b"\xff" * 1600 + QUESTION)
            await caller.listen()
            await caller.hang_up()
            return caller

    with served(module.app) as address:
        caller = asyncio.run(call(address))
    assert caller.heard == wav_to_mulaw(ANSWER)
    assert {message["event"] for message in caller.messages} == {"media"}
    assert {message["streamSid"] for message in caller.messages} == {"MZ" + "0" * 32}
    assert len(caller.messages) == 15, "0.3 s in pieces of 160 bytes"
    assert caller.arrived[-1] - caller.arrived[0] > 0.2, "at the pace of speech"
    kinds = [kind for kind, _ in sarvam.asked]
    assert kinds == ["stt", "llm", "tts"]
    (_, (hint, seconds)), (_, messages), (_, spoken) = sarvam.asked
    assert (hint, spoken) == ("te-IN", ("Ninety thousand rupees.", "te-IN"))
    assert 0.4 <= seconds <= 1.2
    assert messages[-1] == {"role": "user", "content": "what are the fees"}
    assert module.call_language_map == {}, "the call is over"


def test_after_the_guide_the_conversation_is_remembered() -> None:
    sarvam = Sarvam()

    async def call(address: str) -> None:
        async with Call(address) as caller:
            for _ in range(2):
                await caller.say(QUESTION)
                await caller.listen()

    with served(server("after", sarvam).app) as address:
        asyncio.run(call(address))
    messages = [asked for kind, asked in sarvam.asked if kind == "llm"][1]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"].startswith("You are a helpful voice assistant.\n\nAnswer in English")


@pytest.mark.parametrize("stage", ["stt", "tts"])
def test_after_the_guide_a_failed_turn_is_silent_and_the_call_goes_on(stage: str) -> None:
    sarvam = Sarvam(**{stage: 2})

    async def call(address: str) -> bytes:
        async with Call(address) as caller:
            await caller.say(QUESTION)
            await caller.say(QUESTION)
            await caller.listen()
            return caller.heard

    with served(server("after", sarvam).app) as address:
        assert asyncio.run(call(address)) == wav_to_mulaw(ANSWER), "the second one is answered"
    assert [kind for kind, _ in sarvam.asked].count(stage) == 3


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_caller_who_is_gone_is_not_spoken_to(name: str) -> None:
    sarvam = Sarvam()
    module = server(name, sarvam)

    async def calls(address: str) -> Any:
        async with Call(address, "CA1") as first:
            await first.say(QUESTION)
            assert await asyncio.to_thread(sarvam.speaks.wait, 10)
        async with Call(address, "CA2") as second:
            await second.say(QUESTION)
            await second.listen()
            return second

    with served(module.app) as address:
        assert asyncio.run(calls(address)).heard == wav_to_mulaw(ANSWER), "others are served as before"


def test_a5_the_steps_are_all_that_has_changed() -> None:
    """An import, a construction, a choice, and the body of ``process_speech_buffer``."""

    class Undo(ast.NodeTransformer):
        def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
            return None if node.module == "orchestrator" else node

        def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
            return None if ast.unparse(node.targets[0]) in {"metrics", "orchestrator"} else node

        def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
            return None if ast.unparse(node).startswith("orchestrator.set_language") else node

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
            self.generic_visit(node)
            if node.name == "process_speech_buffer":
                node.body = [ast.Pass()]
            return node

    def rest(name: str) -> str:
        tree = ast.parse((GUIDE / f"{name}.py").read_text(encoding="utf-8"))
        return ast.unparse(ast.Module(Undo().visit(tree).body[1:], []))

    assert rest("before") == rest("after")


def test_a_message_that_twilio_does_not_send_yet_is_tolerated() -> None:
    async def call(address: str) -> bytes:
        async with connect(f"{address}/media-stream", proxy=None) as websocket:
            await websocket.send(json.dumps({"event": "somethingNew", "sequenceNumber": "1"}))
        async with Call(address) as caller:
            await caller.say(QUESTION)
            await caller.listen()
            return caller.heard

    with served(server("after", Sarvam()).app) as address:
        assert asyncio.run(call(address)) == wav_to_mulaw(ANSWER)
