"""The OpenAPI document of the server as it is put together: every route of it, and none that is made up."""

from __future__ import annotations

import asyncio
import json

from antiphon.config import Settings
from antiphon.languages import load_languages
from antiphon.providers.registry import load
from antiphon.runtime.host import Host
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.phrases import PhraseBook
from antiphon.runtime.services import Services
from antiphon.runtime.stages import Providers
from antiphon.runtime.vad import SileroActivity
from antiphon.runtime.writer import JournalWriter
from antiphon.server import openapi
from antiphon.server.front import make_front
from antiphon.stores.memory import MemoryJournal


def document() -> str:
    """JSON text."""
    return asyncio.run(_document())


async def _document() -> str:
    """Nothing is started for it: routes do not depend on what answers them."""
    journal = MemoryJournal()
    writer = JournalWriter(journal)
    services = Services(
        providers=Providers(
            transcribers=(load("stt", "fake"),),
            responders=(load("llm", "fake"),),
            degraded=load("llm", "fake"),
            synthesizers=(load("tts", "fake"),),
        ),
        phrases=PhraseBook(lambda tag, kind: ()),
        wheel=PacingWheel(),
        journal=journal,
        writer=writer,
    )
    front = make_front(Settings(), load_languages(), Host(services), writer, SileroActivity())
    return json.dumps(openapi.document(front.app), indent=2, ensure_ascii=False) + "\n"
