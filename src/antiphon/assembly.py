"""Puts a server together from its settings: providers, the media path, the journal, the host, the application.

The only module that knows all of them. It builds; it decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from antiphon.config import Settings
from antiphon.errors import ConfigError, MissingExtra
from antiphon.kernel.policy import Policy
from antiphon.knowledge import load_knowledge, speaking_for
from antiphon.language_id import LanguageIdentifier
from antiphon.languages import (
    SPOKEN_BY_TURNS,
    Language,
    backchannels,
    find_language,
    language_requests,
    load_languages,
    phrase,
    unfinished,
)
from antiphon.providers.llm import extractive
from antiphon.providers.registry import load
from antiphon.providers.service_wire import Stage
from antiphon.providers.wiring import transcriber_settings
from antiphon.runtime.host import Host
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.phrases import PhraseBook
from antiphon.runtime.ports import Classifier, Journal, Retriever, Synthesizer, Transcriber
from antiphon.runtime.services import Media, Services
from antiphon.runtime.stages import Limits, Providers
from antiphon.runtime.vad import SileroActivity
from antiphon.runtime.writer import JournalWriter
from antiphon.stores.choice import open_journal

if TYPE_CHECKING:
    from fastapi import FastAPI

    from antiphon.server.sockets import MediaRoute
    from antiphon.server.vitals import Vitals
    from antiphon.server.workers import Worker

log = logging.getLogger("antiphon.assembly")


ALONE_BUSY_S = 1.0
SHARED_BUSY_S = 5.0
"""How long one writer of a journal's file waits for another, which holds it for a group commit: that of a disk that is
slow, once for each worker in front."""


_Start = Callable[[], Awaitable[None]]


class _Startable(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Antiphon:
    """A running host and the application in front of it. ``routes`` are the media sockets by path."""

    settings: Settings
    host: Host
    app: FastAPI
    routes: dict[str, MediaRoute]
    vitals: Vitals


def policy_of(settings: Settings, languages: dict[str, Language], transcribers: Sequence[Transcriber] = ()) -> Policy:
    """The kernel's policy: defaults, what the parts need, the words of the offered languages, and ``[policy]``.

    A turn gives a final the time that the slowest of the transcribers asks for: see ``Transcriber``.
    Raises ``ConfigError`` for a key the policy does not have or a value out of range.
    """
    offered = {tag: find_language(tag, languages) for tag in settings.languages.offered}
    first = next(iter(transcribers), None)
    given: dict[str, Any] = {
        "ttl_ms": int(settings.server.session_ttl_s * 1000),
        "languages": settings.languages.offered,
        "fallbacks": max(1, len(settings.llm.fallback)),
        "final_expected_ms": getattr(first, "final_expected_ms", Policy().final_expected_ms),
        "final_ms": max([Policy().final_ms, *(getattr(each, "final_ms", 0) for each in transcribers)]),
        "backchannels": backchannels(offered),
        "unfinished": unfinished(offered),
        "language_requests": language_requests(offered),
        **settings.policy,
    }
    unknown = set(given) - set(Policy.__struct_fields__)
    if unknown:
        fields = ", ".join(sorted(Policy.__struct_fields__))
        raise ConfigError(f"[policy] has no {', '.join(sorted(unknown))}; it has {fields}", code="config.unknown_key")
    try:
        return msgspec.convert(given, Policy)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"[policy]: {error}", code="config.bad_value") from None


def _folder(settings: Settings) -> Path | None:
    return Path(settings.languages.folder) if settings.languages.folder else None


def _languages(settings: Settings) -> dict[str, Language]:
    """Raises ``ConfigError`` for a folder that is none, and a file that is wrong."""
    folder = _folder(settings)
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"[languages] folder: {folder} is no folder", code="config.bad_value")
    languages = load_languages(folder)
    for tag in settings.languages.offered:
        if tag not in languages:
            log.warning(
                "%s has no language file: its phrases are those of %s; copy one, translate it, and name its folder in "
                "[languages] folder",
                tag,
                find_language(tag, languages).tag,
            )
    return languages


EMBEDDED = frozenset({"minilm", "lexical", "extractive"})
"""Providers that read the knowledge base."""

WORDY = frozenset({"minilm", "extractive"})
"""Providers that read the language files."""


def _knowledge(settings: Settings) -> str:
    return str(settings.retrieval.settings.get("knowledge") or "")


def _informed(name: str, given: Mapping[str, object], settings: Settings) -> dict[str, object]:
    """A provider's settings; the embedded ones share ``[retrieval] knowledge`` unless they name another."""
    known = {"knowledge": _knowledge(settings)} if name in EMBEDDED and _knowledge(settings) else {}
    words = {"languages": settings.languages.folder} if name in WORDY and settings.languages.folder else {}
    return {**known, **words, **given}


def _providers(settings: Settings) -> Providers:
    """Builds what the settings name. Intent and retrieval are optional stages: a missing model costs accuracy only."""
    return Providers(
        # The recogniser expects what the knowledge base can be asked.
        transcribers=tuple(
            load("stt", each.provider, transcriber_settings(each.provider, each.settings, settings.retrieval.settings))
            for each in settings.stt.chain()
        ),
        responders=tuple(
            load("llm", each.provider, _informed(each.provider, each.settings, settings))
            for each in settings.llm.chain()
        ),
        degraded=extractive.build(_informed("extractive", {}, settings)),
        synthesizers=tuple(load("tts", each.provider, each.settings) for each in settings.tts.chain()),
        classifier=_classifier(settings),
        retriever=_retriever(settings),
        limits=Limits(
            stt=settings.stt.limits,
            llm=settings.llm.limits,
            tts=settings.tts.limits,
            intent=settings.intent.limits,
            retrieval=settings.retrieval.limits,
        ),
    )


def provider_of(stage: Stage, settings: Settings) -> Any:
    """The provider that the settings name first for one stage, not started: what ``antiphon service`` serves.

    Raises ``ConfigError`` and ``MissingExtra``: a service without its model is none.
    """
    chosen = getattr(settings, stage).chain()[0]
    if stage == "stt":
        return load(
            stage, chosen.provider, transcriber_settings(chosen.provider, chosen.settings, settings.retrieval.settings)
        )
    return load(stage, chosen.provider, _informed(chosen.provider, chosen.settings, settings))


def _classifier(settings: Settings) -> Classifier:
    try:
        given = _informed(settings.intent.provider, settings.intent.settings, settings)
        return load("intent", settings.intent.provider, given)
    except MissingExtra as error:
        log.warning("intents are not classified: %s", error)
        return load("intent", "none")


def _retriever(settings: Settings) -> Retriever:
    try:
        return load("retrieval", settings.retrieval.provider, settings.retrieval.settings)
    except MissingExtra as error:
        log.warning("retrieval goes by words instead of meaning: %s", error)
        return load("retrieval", "lexical", _informed("lexical", {}, settings))


def _started(providers: Providers) -> list[_Startable]:
    parts: list[_Startable] = [*providers.transcribers, *providers.responders, *providers.synthesizers]
    parts.append(providers.degraded)
    parts += [part for part in (providers.classifier, providers.retriever) if part is not None]
    return parts


@asynccontextmanager
async def assembled(
    settings: Settings, starting: set[str] | None = None, worker: Worker | None = None
) -> AsyncGenerator[Antiphon, None]:
    """Everything started, and closed again at the end, in reverse order.

    ``starting`` is kept up to date with the names of the parts that are still starting, for whoever waits. ``worker``
    is what this process shares with others that serve with it; None: it serves alone.
    Raises ``ConfigError`` and ``MissingExtra`` with the fix, before anything listens.
    """
    # The knowledge base's own greeting and keypad menu replace the general ones.
    languages = dict(speaking_for(_languages(settings), load_knowledge(_knowledge(settings) or None)))
    providers = _providers(settings)
    policy = policy_of(settings, languages, providers.transcribers)
    activity = SileroActivity()
    journal = _journal(settings, worker)
    hosts: list[Host] = []

    def lost(session: str) -> None:
        for host in hosts:
            host.lost(session)

    writer = JournalWriter(journal, on_stale=lost)
    wheel = PacingWheel()
    parts = [*_started(providers), activity]
    try:
        phrases = PhraseBook(lambda tag, kind: _variants(tag, kind, languages))
        rest: dict[str, _Start] = {
            "phrases": partial(_speak_phrases, phrases, providers.synthesizers, settings),
            "journal": writer.start,
            "web": _import_front,
        }
        others = [part for part in parts if part not in providers.synthesizers]
        await _all_started(others, rest, set() if starting is None else starting)
        host = Host(
            Services(
                providers=providers,
                phrases=phrases,
                wheel=wheel,
                journal=journal,
                writer=writer,
                policy=policy,
                media=_media(settings),
                activity=activity,
                identify=LanguageIdentifier(settings.languages.offered, _folder(settings)).identify,
                language=settings.languages.default,
                max_sessions=settings.server.max_sessions,
            ),
            None if worker is None else worker.places,
        )
        hosts.append(host)
        from antiphon.server.front import make_front  # noqa: PLC0415 - loaded beside the models, by _import_front

        front = make_front(settings, languages, host, writer, activity, worker=worker)
        yield Antiphon(settings, host, front.app, front.routes, front.vitals)
    finally:
        wheel.close()
        closing = [writer.close(), *(part.close() for part in reversed(parts))]
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a part could not be closed cleanly", exc_info=result)


def _journal(settings: Settings, worker: Worker | None) -> Journal:
    return open_journal(
        settings.journal.place,
        synchronous=settings.journal.synchronous,
        keep_days=settings.journal.keep_days if worker is None or worker.number == 1 else 0,  # one of them deletes
        busy_s=ALONE_BUSY_S if worker is None else SHARED_BUSY_S,
        ttl_s=settings.server.session_ttl_s,
    )


async def _all_started(parts: Sequence[_Startable], rest: Mapping[str, _Start], starting: set[str]) -> None:
    """Starts everything side by side; the first failure is raised once all have come to an end.

    A start is called by the task that awaits it: one that is cancelled before its first step leaves nothing unawaited.
    """

    async def named(name: str, start: _Start) -> None:
        starting.add(name)
        try:
            await start()
        finally:
            starting.discard(name)

    starts = [named(getattr(part, "name", type(part).__name__.lower()), part.start) for part in parts]
    starts += [named(name, start) for name, start in rest.items()]
    for result in await asyncio.gather(*starts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _media(settings: Settings) -> Media:
    line, tts = settings.line, settings.tts
    return Media(message_ms=line.message_ms, lead_ms=line.lead_ms, voice=tts.voice, voices=tts.voices)


async def _speak_phrases(phrases: PhraseBook, voices: Sequence[Synthesizer], settings: Settings) -> None:
    """Renders what must always be at hand, as soon as the voices can speak."""
    await asyncio.gather(*(voice.start() for voice in voices))
    voice_of = _media(settings).voice_of
    missing = await phrases.prepare(voices, settings.languages.offered, SPOKEN_BY_TURNS, voice_of)
    if missing:
        log.warning("%d phrases could not be spoken; a tone stands in for them", missing)


async def _import_front() -> None:
    """The web server's modules, in the time that the worker processes need to load their models."""
    await asyncio.sleep(0)
    await asyncio.to_thread(import_module, "antiphon.server.front")


def _variants(tag: str, kind: str, languages: dict[str, Language]) -> tuple[str, ...]:
    language = find_language(tag, languages)
    return language.phrases.get(kind) or (phrase(language, kind, languages=languages),)
