"""All stages of a process: each a chain of providers behind breakers, shared by every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from antiphon.runtime.chain import Chain
from antiphon.runtime.hearing import Hearing
from antiphon.runtime.ports import Classifier, Responder, Retriever, Synthesizer, Transcriber
from antiphon.runtime.resilience import StagePolicy


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The policy of each stage. Speech stages have little time for a second try: the next provider gets it."""

    stt: StagePolicy = StagePolicy(first_s=5.0, open_s=30.0)
    llm: StagePolicy = StagePolicy()
    tts: StagePolicy = StagePolicy(first_s=2.0, between_s=1.0, open_s=30.0)
    intent: StagePolicy = StagePolicy(first_s=2.0, retries=0, open_s=30.0)
    retrieval: StagePolicy = StagePolicy(first_s=2.0, retries=0, open_s=30.0)


_ONE_ANSWER = ("first_s", "failures", "open_s")
_TRIES = ("retries", "retry_pause_s", *_ONE_ANSWER)

OPTIONS: Mapping[str, frozenset[str]] = {
    "stt": frozenset(("share", *_TRIES)),
    "llm": frozenset(StagePolicy.__struct_fields__),
    "tts": frozenset(("between_s", *_TRIES)),
    "intent": frozenset(_ONE_ANSWER),
    "retrieval": frozenset(_ONE_ANSWER),
}
"""What of its policy each stage goes by; of the rest it has no use, and settings that name it are refused."""


@dataclass(frozen=True)
class Providers:
    """In order of preference. ``degraded`` answers from passages alone, without a model or a network."""

    transcribers: tuple[Transcriber, ...]
    responders: tuple[Responder, ...]
    degraded: Responder
    synthesizers: tuple[Synthesizer, ...]
    classifier: Classifier | None = None
    retriever: Retriever | None = None
    limits: Limits = field(default_factory=Limits)


class Stages:
    """``final_s`` is what a turn gives the final of an utterance, in seconds."""

    def __init__(self, providers: Providers, *, final_s: float) -> None:
        limits, classifier, retriever = providers.limits, providers.classifier, providers.retriever
        self.stt: Chain[Transcriber] = Chain("stt", providers.transcribers, limits.stt)
        self.llm: Chain[Responder] = Chain("llm", providers.responders, limits.llm)
        self.degraded: Chain[Responder] = Chain("llm", (providers.degraded,), limits.llm)
        self.tts: Chain[Synthesizer] = Chain("tts", providers.synthesizers, limits.tts)
        self.intent: Chain[Classifier] = Chain("intent", (classifier,) if classifier else (), limits.intent)
        self.retrieval: Chain[Retriever] = Chain("retrieval", (retriever,) if retriever else (), limits.retrieval)
        self.transcriber = Hearing(self.stt, final_s=final_s)

    def status(self) -> dict[str, Any]:
        """By stage and provider, for health and metrics."""
        chains: tuple[Chain[Any], ...] = (self.stt, self.llm, self.tts, self.intent, self.retrieval)
        return {chain.stage: chain.status() for chain in chains if chain.members}
