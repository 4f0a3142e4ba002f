"""Intents from a service over HTTP: ``POST /classify`` of ``service_wire``. Codes: see ``service_client``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.kernel.events import MAX_TEXT
from antiphon.kernel.history import Message
from antiphon.providers.service_client import Seconds, ServiceClient, ServiceSettings
from antiphon.providers.service_wire import MAX_TAG, ClassifyAnswer, ClassifyRequest, lines_of
from antiphon.providers.settings import convert
from antiphon.runtime.ports import Intent

MAX_ANSWER_BYTES = 16 * 1024

_answer = msgspec.json.Decoder(ClassifyAnswer)


class HttpClassifierSettings(ServiceSettings, frozen=True, kw_only=True):
    """See ``ServiceSettings``. ``timeout_s``: for an intent; a turn waits less than this."""

    timeout_s: Seconds = 2.0


class HttpClassifier:
    name = "http"

    def __init__(self, settings: HttpClassifierSettings) -> None:
        self.client = ServiceClient("intent", settings)
        self.service = self.client.title
        self._timeout_s = settings.timeout_s

    async def start(self) -> None:
        await self.client.start()

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        """See ``Classifier``. Raises ``ProviderError``."""
        asked = ClassifyRequest(text[:MAX_TEXT], language[:MAX_TAG], lines_of(history))
        body = msgspec.structs.asdict(asked) | {"history": [msgspec.structs.asdict(each) for each in asked.history]}
        found = await self.client.ask(body, _answer, seconds=self._timeout_s, most=MAX_ANSWER_BYTES)
        return Intent(found.intent, found.confidence)

    async def check(self) -> str:
        """Raises ``ProviderError``."""
        return await self.client.check()

    async def close(self) -> None:
        await self.client.close()


def build(settings: dict[str, object]) -> HttpClassifier:
    """``[intent] provider = "http"``, or ``INTENT_SERVICE_URL`` in the environment. Raises ``ConfigError``."""
    return HttpClassifier(convert(settings, HttpClassifierSettings, "[intent] http"))
