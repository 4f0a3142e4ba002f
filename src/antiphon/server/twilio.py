"""Twilio's webhooks: what a call does when it comes in, when its stream ended, and what Twilio reports of it.

``POST /voice`` connects the call to a media stream. A stream can end for two reasons, and Twilio tells the same for
both: the conversation is over, or something of ours broke. So ``<Connect>`` names an ``action`` webhook, and a
``<Redirect>`` follows for the case that Twilio goes on to the next verb instead; both ask the call book. A call that
ended on purpose gets ``<Hangup/>``, or ``<Dial>`` if it was handed over; any other is connected again under the same
call id, a few times, then hears an apology. Twilio asks ``action`` when we close a stream; whether it also does after
an abrupt loss is not documented: confirm it with a live account.

Webhooks may come by GET as well as by POST, as the account is set up. Twilio's signature has no date, so a request that
was recorded can be sent again: it has no second effect (answers are kept by call id and event), and a stream token
works once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

import msgspec
from fastapi import APIRouter, Request, Response

from antiphon.errors import NotAllowed, PeerError
from antiphon.server import twiml
from antiphon.server.answers import refuse
from antiphon.transports.twilio_auth import check_webhook
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_start import CALL_PARAMETER, CALLER_PARAMETER, LANGUAGE_PARAMETER, TOKEN_PARAMETER

log = logging.getLogger("antiphon.server.twilio")

MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 200
_CALL_ID = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
_TRANSFER = "transfer:"
"""A call that hung up for this reason goes on with who follows the colon: a number or a SIP address."""
_OVER = frozenset(("completed", "busy", "failed", "no-answer", "canceled"))


class CallDesk(Protocol):
    """What the webhooks ask of, and tell to, the part of the server that holds the calls."""

    def has_room(self, call_id: str) -> bool:
        """True if this call would be taken on, or is being held already."""

    async def ended(self, call_id: str) -> str:
        """Why the call ended on purpose, as far as a shared store knows, or ``""``."""

    def call_over(self, call_id: str, status: str) -> None:
        """Twilio says that the phone call itself is over, so nobody will come back to it."""


class Webhook(msgspec.Struct, frozen=True):
    """One request that proved itself. ``fields`` are the form's, or the query's where the form has none."""

    call_id: str
    fields: dict[str, str]
    event: str
    server: str
    """This server's own socket address, ``host:port``: for TwiML on a machine without a public URL."""

    def get(self, name: str) -> str:
        return self.fields.get(name, "")


class Webhooks:
    """The answers. ``router`` gives them their routes."""

    def __init__(self, exchange: Exchange, desk: CallDesk) -> None:
        self._settings = exchange.settings
        self._book = exchange.book
        self._tokens = exchange.tokens
        self._desk = desk

    async def voice(self, request: Webhook) -> str:
        """A call comes in, chose a language, or fell through to the ``<Redirect>`` behind its stream."""
        if request.get("resume"):
            return await self.after(request)
        if not self._desk.has_room(request.call_id):
            log.warning("call %s rejected as busy: admission.full", request.call_id)
            return twiml.response(twiml.reject())
        if self._settings.menu and not request.get("language"):
            return self._menu(request)
        return self._book.answer_once(request.call_id, request.event, lambda: self._connect(request))

    async def after(self, request: Webhook) -> str:
        """The stream ended: the call is over, or comes back."""
        call_id = request.call_id
        ended = self._book.ended(call_id) or await self._desk.ended(call_id)
        if ended.startswith(_TRANSFER):
            return twiml.response(twiml.dial(ended.removeprefix(_TRANSFER)), twiml.HANGUP)
        if request.get("CallStatus") in _OVER:
            self._desk.call_over(call_id, request.get("CallStatus"))
            return twiml.response(twiml.HANGUP)
        if ended:
            return twiml.response(twiml.HANGUP)
        return self._book.answer_once(call_id, request.event, lambda: self._reconnect(request))

    def status(self, request: Webhook) -> None:
        """A report of the call or of its stream; repeated ones have no further effect."""
        call_status = request.get("CallStatus")
        if call_status in _OVER:
            self._book.note_ended(request.call_id, f"status.{call_status}")
            self._desk.call_over(request.call_id, call_status)
        if request.get("StreamEvent") == "stream-error":
            log.warning("stream of call %s failed: %r", request.call_id, request.get("StreamError")[:200])

    def _reconnect(self, request: Webhook) -> str:
        times = self._book.count_reconnect(request.call_id)
        if times > self._settings.reconnects:
            log.error("call %s broke %s times: said the apology and hung up", request.call_id, times)
            self._desk.call_over(request.call_id, "gave_up")
            return twiml.response(twiml.say(self._settings.apology, self._settings.apology_language), twiml.HANGUP)
        log.warning("stream of call %s broke, connecting again (%s)", request.call_id, times)
        return self._connect(request)

    def _connect(self, request: Webhook) -> str:
        settings, call_id = self._settings, request.call_id
        language = request.get("language")
        if settings.menu and not language:
            language = next((c.language for c in settings.menu if c.digit == request.get("Digits")), "")
        query = f"?{urlencode({'language': language})}" if language else ""
        resume = f"?{urlencode({'resume': '1', **({'language': language} if language else {})})}"
        parameters = {
            CALL_PARAMETER: call_id,
            TOKEN_PARAMETER: self._tokens.issue(call_id) if self._tokens else "",
            LANGUAGE_PARAMETER: language,
            CALLER_PARAMETER: request.get("From"),
        }
        stream = settings.stream_url() if settings.public_url else f"ws://{request.server}{settings.media_path}"
        return twiml.response(
            *twiml.connect(
                stream=stream,
                action=settings.http_url(f"{settings.voice_path}/after") + query,
                resume=settings.http_url(settings.voice_path) + resume,
                status=settings.http_url(f"{settings.voice_path}/status"),
                parameters=parameters,
            )
        )

    def _menu(self, request: Webhook) -> str:
        """A68: the caller picks a language by key; without a usable one the first is taken."""
        settings = self._settings
        here = settings.http_url(settings.voice_path)
        first = settings.menu[0].language
        if digit := request.get("Digits"):
            chosen = next((c.language for c in settings.menu if c.digit == digit), first)
            return twiml.response(twiml.redirect(f"{here}?{urlencode({'language': chosen})}"))
        return twiml.response(
            twiml.gather_digit(here, ((choice.prompt, choice.language) for choice in settings.menu)),
            twiml.redirect(f"{here}?{urlencode({'language': first})}"),
        )


def router(exchange: Exchange, desk: CallDesk) -> APIRouter:
    """The routes, at ``settings.voice_path``: itself, ``/after`` and ``/status``."""
    routes = APIRouter()
    hooks = Webhooks(exchange, desk)
    path = exchange.settings.voice_path

    async def voice(request: Request) -> Response:
        return await _answer(exchange, path, request, hooks.voice)

    async def after(request: Request) -> Response:
        return await _answer(exchange, f"{path}/after", request, hooks.after)

    async def status(request: Request) -> Response:
        try:
            hooks.status(await _read(exchange, f"{path}/status", request))
        except PeerError as refused:
            return _refuse(request, refused)
        return Response(status_code=204)

    for route, endpoint in ((path, voice), (f"{path}/after", after), (f"{path}/status", status)):
        routes.add_api_route(route, endpoint, methods=["POST", "GET"], include_in_schema=False)
    return routes


async def _answer(
    exchange: Exchange, path: str, request: Request, reply: Callable[[Webhook], Awaitable[str]]
) -> Response:
    try:
        webhook = await _read(exchange, path, request)
    except PeerError as refused:
        return _refuse(request, refused)
    return Response(await reply(webhook), media_type=twiml.CONTENT_TYPE)


async def _read(exchange: Exchange, path: str, request: Request) -> Webhook:
    """Raises ``NotAllowed`` for a request that is not proven, ``PeerError`` for one that cannot be read."""
    form = _pairs(await _body(request)) if request.method == "POST" else []
    query = request.scope.get("query_string", b"").decode("latin-1")
    check_webhook(
        exchange.settings,
        path=path,
        query=query,
        parameters=form,
        client=request.client.host if request.client else "",
        headers=request.headers,
    )
    fields = dict(_pairs(query.encode("latin-1"))) | dict(form)
    call_id = fields.get("CallSid", "")
    if not _CALL_ID.fullmatch(call_id):
        raise PeerError("a webhook names its call in CallSid", code="webhook.call_sid")
    event = request.headers.get("i-twilio-idempotency-token", "") or fields.get("StreamSid", "")
    host, port = request.scope.get("server") or ("127.0.0.1", None)
    host = f"[{host}]" if ":" in host else host
    return Webhook(call_id, fields, f"{path} {event}" if event else "", f"{host}:{port}" if port else host)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise PeerError(f"a webhook has at most {MAX_BODY_BYTES} bytes", code="webhook.too_large")
    return bytes(body)


def _pairs(data: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise PeerError(f"a webhook has at most {MAX_FIELDS} fields", code="webhook.too_many_fields") from None


def _refuse(request: Request, refused: PeerError) -> Response:
    status = 403 if isinstance(refused, NotAllowed) else 413 if refused.code == "webhook.too_large" else 400
    client = request.client.host if request.client else "-"
    log.warning("webhook %s from %s refused: %s", request.url.path, client, refused.code)
    answer = refuse(status, refused.code, str(refused.args[0]))
    return Response(answer.body, status_code=status, media_type="application/json")
