"""The shapes of what the classes for embedding give back: those of turns that are really processed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from antiphon.facade.agent_orchestrator import STATES, AgentOrchestrator
from antiphon.facade.metrics import MetricsCollector
from antiphon.media.codec import wav_write
from antiphon.runtime.breaker import BreakerState

WAV = wav_write(b"\0\0" * 800, 8000)


class Answers:
    """All three modules: they answer at once, or, as ``silent``, not at all."""

    def __init__(self, silent: str = "") -> None:
        self._silent = silent

    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        return ("" if self._silent == "stt" else "what are the fees"), language

    async def chat(self, messages: list[dict[str, str]]) -> str:
        return "Ninety thousand rupees a year."

    async def text_to_speech(self, text: str, language: str) -> bytes:
        return b"" if self._silent == "tts" else WAV


def shapes() -> str:
    """What is given back by turns that went well and by turns that failed."""
    results, states, metrics = asyncio.run(_turns())
    blocks = {
        "`AgentOrchestrator.process_turn(...)`": _shape(results),
        "`AgentOrchestrator.get_status()`": _shape(states),
        "`MetricsCollector.get_average_latencies()`": _shape([metrics.get_average_latencies()]),
    }
    text = "\n\n".join(f"{title}\n\n```text\n{shape}\n```" for title, shape in blocks.items())
    named = _list(dict.fromkeys([*STATES.values(), "error"]))
    return f"{text}\n\n`processing_state` is one of {named}; a breaker's `state` one of {_list(BreakerState)}."


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


async def _turns() -> tuple[list[Any], list[Any], MetricsCollector]:
    """Results, states, and what the collector was told."""
    metrics = MetricsCollector()
    results: list[Any] = []
    states: list[Any] = []
    with quiet():
        for silent in ("", "stt", "tts"):
            module = Answers(silent)
            agent = AgentOrchestrator(module, module, module, metrics_collector=metrics)
            states.append(agent.get_status())
            results.append(await agent.process_turn(WAV))
            states.append(agent.get_status())
    return results, states, metrics


@contextmanager
def quiet() -> Iterator[None]:
    """What is meant to fail is not told of."""
    logger = logging.getLogger("antiphon")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _shape(values: list[Any], indent: str = "") -> str:
    """Keys and types; a key whose values differ in type has all of them."""
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        inner = indent + "  "
        lines = [f"{inner}{key!r}: {_shape([value[key] for value in values], inner)}," for key in keys]
        return "\n".join(["{", *lines, f"{indent}}}"]).replace("'", '"') if keys else "{}"
    names = dict.fromkeys("None" if value is None else type(value).__name__ for value in values)
    return " or ".join(["list of str" if name == "list" else name for name in names])
