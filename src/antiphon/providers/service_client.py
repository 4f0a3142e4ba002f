"""One of an agent's parts as a service over HTTP: where it is, with which key, how it is asked and how it is.

What it says is in ``service_wire``. Error codes, after ``<stage>.``: unauthorized, quota, rate_limited, not_found,
bad_request, bad_endpoint, server, unreachable, timeout_connect, timeout_first_byte, timeout_stalled, timeout_total,
cut, garbage, too_large, closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from antiphon.errors import UNUSABLE, ConfigError, ProviderError
from antiphon.providers.endpoints import api_key, check_url
from antiphon.providers.failures import failed
from antiphon.providers.service_wire import KEY_VARIABLE, PLACES, Health, Stage
from antiphon.providers.session import Session
from antiphon.secret import Secret

if TYPE_CHECKING:
    from antiphon.providers.exchange import Exchange
    from antiphon.providers.http import Patience

MAX_HEALTH_BYTES = 64 * 1024

Seconds = Annotated[float, Meta(gt=0, le=60)]
T = TypeVar("T")


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``url``: where the service is, such as ``http://intent-service:8002``. The key is the one in
    ``ANTIPHON_SERVICE_KEY``, or in the variable that ``api_key_env`` names; none is sent where there is none.
    ``connect_s``: seconds for a connection.
    """

    url: str
    api_key: Secret = Secret("")
    api_key_env: str = KEY_VARIABLE
    connect_s: Seconds = 1.0
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 512


class ServiceClient:
    """One HTTP session for one service, opened by ``start`` or by the first request.

    Raises ``ConfigError`` for an address that is none, and for one with a password in it.
    """

    def __init__(self, stage: Stage, settings: ServiceSettings, *, accept: str = "application/json") -> None:
        place = PLACES[stage]
        where = f"[{stage}] http"
        check_url(settings.url, "url", where, f"http://{place.title}:{place.port}")
        if urlsplit(settings.url).username is not None:
            raise ConfigError(
                f"{where}: url holds a user or a password: leave it out, and set {settings.api_key_env or KEY_VARIABLE}"
            )
        self.stage: Stage = stage
        self.title = place.title
        self.base_url = settings.url.rstrip("/")
        self.key = api_key(settings.api_key, settings.api_key_env, where, needed=False)
        self.session = Session(
            "http",
            stage,
            self.base_url,
            headers=lambda: {"Accept": accept} | ({"Authorization": f"Bearer {self.key.reveal()}"} if self.key else {}),
            connect_s=settings.connect_s,
            max_connections=settings.max_connections,
        )
        """Opens no connection by itself: the service may come up later than its clients."""

    async def start(self) -> None:
        self.session.start()

    async def close(self) -> None:
        """Requests under way raise ``ProviderError``. May be called twice."""
        await self.session.close()

    def exchange(self, patience: Patience) -> Exchange:
        """Raises ``ProviderError`` (``closed``)."""
        from antiphon.providers.exchange import Exchange  # noqa: PLC0415 - imports aiohttp

        session = self.session.use()
        place = PLACES[self.stage]
        hint = f"start it (`antiphon service {place.part}`), or unset {place.variable} to do its work here"
        return Exchange(session, patience, "http", self.stage, key=self.key, place=self.base_url, hint=hint)

    def patience(self, first_s: float, between_s: float, total_s: float) -> Patience:
        from antiphon.providers.http import Patience, Waits  # noqa: PLC0415 - imports aiohttp

        return Patience(Waits(first_s=first_s, between_s=between_s, total_s=total_s), "http", self.stage)

    async def ask(self, body: dict[str, Any], answer: msgspec.json.Decoder[T], *, seconds: float, most: int) -> T:
        """One question and its whole answer, of at most ``most`` bytes, within ``seconds``.

        Raises ``ProviderError`` with the module's codes.
        """
        exchange = self.exchange(self.patience(seconds, seconds, seconds))
        try:
            await exchange.post(f"{self.base_url}{PLACES[self.stage].path}", body)
            whole = await exchange.whole(most + 1)
        finally:
            exchange.close()
        if len(whole) > most:
            raise failed(f"the answer is over {most} bytes", "too_large", "http", self.stage)
        try:
            return answer.decode(whole)
        except UNUSABLE as error:
            raise self.garbage(str(error)) from None

    async def check(self) -> str:
        """Asks how the service is: for ``/health`` and ``antiphon doctor``. Raises ``ProviderError``."""
        exchange = self.exchange(self.patience(2.0, 2.0, 2.0))
        body = await exchange.get(f"{self.base_url}/health", MAX_HEALTH_BYTES)
        try:
            found = msgspec.json.decode(body, type=Health)
        except UNUSABLE:
            raise self.garbage("its health is no JSON object with a status") from None
        if found.status != "healthy":
            raise failed(f"{self.base_url} is {found.status[:40]}", "server", "http", self.stage)
        return f"{self.base_url} is healthy" + (f" ({found.provider[:60]})" if found.provider else "")

    def garbage(self, what: str) -> ProviderError:
        return failed(f"{self.base_url} is no {self.title} of this contract: {what}", "garbage", "http", self.stage)
