"""Twilio's webhooks: what a call does when it comes in, when its stream ended, and what Twilio reports of it.

``POST /voice`` asks for the caller's language where there is a choice (``twilio_menu``), and connects the call to a
media stream. A stream can end for two reasons, and Twilio tells the same for
both: the conversation is over, or something of ours broke. So ``<Connect>`` names an ``action`` webhook, and a
``<Redirect>`` follows for the case that Twilio goes on to the next verb instead; both ask the call book. A call that
ended on purpose gets ``<Hangup/>``, or ``<Dial>`` if it was handed over; any other is connected again under the same
call id, a few times, then hears an apology. Twilio asks ``action`` when we close a stream; whether it also does after
an abrupt loss is not documented: confirm it with a live account. ``twilio_way_back`` is for the case that it does not.

Webhooks may come by GET as well as by POST, as the account is set up.

Replays. Twilio's signature has no date: a request that was recorded stays valid. So every address we give Twilio to
come back to has a one-time word in its query, which the signature covers, and no two honest requests carry the same
signature, but for Twilio's own retry within seconds. That one gets the answer of the first, whose stream token works
once; later ones are refused (403 ``auth.replayed``), and so is a call that begins a second time. The idempotency token
that Twilio sends in a header is not signed: who replays would choose another.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

import msgspec
from fastapi import APIRouter, Request, Response

from antiphon.errors import NotAllowed, PeerError
from antiphon.runtime.ports import CALL_ID
from antiphon.server import twiml
from antiphon.server.answers import refuse
from antiphon.server.twilio_way_back import WayBack
from antiphon.transports.twilio_auth import SIGNATURE_HEADER, check_webhook
from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_rest import TwilioAccount
from antiphon.transports.twilio_start import CALL_PARAMETER, CALLER_PARAMETER, LANGUAGE_PARAMETER, TOKEN_PARAMETER

log = logging.getLogger("antiphon.server.twilio")

MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 200
RETRY_S = 30.0
"""Twilio gives a webhook 15 s in all, its retries among them ("Webhook connection overrides"); twice that."""
_TWILIO_CALL_ID = re.compile(r"CA[0-9a-fA-F]{32}")
"""A signature is over names and values without a mark between them: the id's length says where its value ends."""
_TRANSFER = "transfer:"
"""A call that hung up for this reason goes on with who follows the colon: a number or a SIP address."""
_OVER = frozenset(("completed", "busy", "failed", "no-answer", "canceled"))


class CallDesk(Protocol):
    """What the webhooks ask of, and tell to, the part of the server that holds the calls."""

    def has_room(self, call_id: str) -> bool:
        """True if this call would be taken on, or is being held already."""

    async def ended(self, call_id: str) -> str:
        """Why the call ended on purpose, as far as a shared store knows, or ``""``."""

    async def knows(self, call_id: str) -> bool:
        """True if a stream of this call was ever opened, as far as a shared store knows."""

    def call_over(self, call_id: str, status: str) -> None:
        """Twilio says that the phone call itself is over, so nobody will come back to it."""


class Webhook(msgspec.Struct, frozen=True):
    """One request that proved itself. ``fields`` are the form's, or the query's where the form has none."""

    call_id: str
    fields: dict[str, str]
    event: str
    """The same for the same event only; "": cannot be told."""
    server: str
    """This server's own socket address, ``host:port``: for TwiML on a machine without a public URL."""

    def get(self, name: str) -> str:
        return self.fields.get(name, "")


class Webhooks:
    """The answers. ``router`` gives them their routes."""

    def __init__(
        self, exchange: Exchange, desk: CallDesk, turned_away: Callable[[str], None], way_back: WayBack
    ) -> None:
        self._settings = exchange.settings
        self._book = exchange.book
        self._tokens = exchange.tokens
        self._desk = desk
        self._turned_away = turned_away
        self._way_back = way_back

    async def voice(self, request: Webhook) -> str:
        """A call comes in, answered the menu, or fell through to the ``<Redirect>`` behind its stream."""
        if request.get("resume"):
            return await self.after(request)
        self._way_back.asked(request.call_id)
        if self._tokens and (self._book.ended(request.call_id) or await self._desk.knows(request.call_id)):
            raise NotAllowed("this call has begun before", code="auth.replayed")
        if not self._desk.has_room(request.call_id):
            log.warning("the call is rejected as busy: admission.full", extra={"call": request.call_id})
            self._turned_away("admission.full")
            # Only a call that nobody answered yet can be rejected, and the menu answers it.
            return self._apology() if request.get("menu") else twiml.response(twiml.reject())
        if self._settings.menu.choices and not request.get("language"):
            return self._menu(request)
        return self._connect(request)

    async def after(self, request: Webhook) -> str:
        """The stream ended: the call is over, or comes back."""
        call_id = request.call_id
        self._way_back.asked(call_id)
        ended = self._book.ended(call_id) or await self._desk.ended(call_id)
        if ended.startswith(_TRANSFER):
            return twiml.response(twiml.dial(ended.removeprefix(_TRANSFER)), twiml.HANGUP)
        if request.get("CallStatus") in _OVER:
            self._desk.call_over(call_id, request.get("CallStatus"))
            return twiml.response(twiml.HANGUP)
        if ended:
            return twiml.response(twiml.HANGUP)
        return self._reconnect(request)

    async def status(self, request: Webhook) -> str:
        """A report of the call or of its stream; repeated ones have no further effect."""
        call_status = request.get("CallStatus")
        if call_status in _OVER:
            self._way_back.asked(request.call_id)
            self._book.note_ended(request.call_id, f"status.{call_status}")
            self._desk.call_over(request.call_id, call_status)
        if request.get("StreamEvent") == "stream-error":
            told = {"call": request.call_id}
            log.warning("the stream failed: %r", request.get("StreamError")[:200], extra=told)
            self._way_back.broke(request.call_id)
        return ""

    def _reconnect(self, request: Webhook) -> str:
        times = self._book.count_reconnect(request.call_id)
        if times > self._settings.reconnects:
            log.error("broke %s times: said the apology and hung up", times, extra={"call": request.call_id})
            self._book.note_ended(request.call_id, "gave_up")
            self._desk.call_over(request.call_id, "gave_up")
            return self._apology()
        log.warning("the stream broke, connecting again (%s)", times, extra={"call": request.call_id})
        return self._connect(request)

    def _connect(self, request: Webhook) -> str:
        settings, call_id = self._settings, request.call_id
        # The address says it too, for a process that does not have this call in its book.
        language = self._book.language(call_id) or request.get("language")
        query = {"once": secrets.token_urlsafe(9)} | ({"language": language} if language else {})
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
                action=settings.http_url(f"{settings.voice_path}/after?{urlencode(query)}"),
                resume=settings.http_url(f"{settings.voice_path}?{urlencode({'resume': '1'} | query)}"),
                status=settings.http_url(f"{settings.voice_path}/status"),
                parameters=parameters,
            )
        )

    def _menu(self, request: Webhook) -> str:
        """A68: the caller picks a language by key or by its name.

        An answer that means none is asked for once more. A caller who says nothing, or nothing usable twice, has
        chosen nothing: the call begins in the default language and may change (X42).
        """
        asked, digits, speech = request.get("menu"), request.get("Digits"), request.get("SpeechResult")
        if not asked:
            return self._ask("1")
        language = self._settings.menu.meant(digits, speech)
        if language:
            log.info("%s was chosen by %s", language, "key" if digits else "word", extra={"call": request.call_id})
            self._book.note_language(request.call_id, language)
        elif (digits or speech) and asked == "1":
            return self._ask("2")
        return self._connect(request)

    def _ask(self, time: str) -> str:
        settings, menu = self._settings, self._settings.menu

        def back(answer: str) -> str:
            query = urlencode({"menu": answer, "once": secrets.token_urlsafe(9)})
            return settings.http_url(f"{settings.voice_path}?{query}")

        said = (self._say(each.prompt, each.language) for each in menu.choices)
        return twiml.response(
            twiml.gather(back(time), said, hears=menu.hears, hints=menu.hints), twiml.redirect(back("silence"))
        )

    def _apology(self) -> str:
        return twiml.response(self._say(self._settings.apology, self._settings.apology_language), twiml.HANGUP)

    def _say(self, text: str, language: str) -> str:
        return twiml.say(text, language, self._settings.say_voice(language))


def router(
    exchange: Exchange,
    desk: CallDesk,
    turned_away: Callable[[str], None] = lambda _: None,
    way_back: WayBack | None = None,
) -> APIRouter:
    """The routes, at ``settings.voice_path``: itself, ``/after`` and ``/status``.

    ``turned_away`` is told the code for each call that is rejected for want of room.
    """
    routes = APIRouter()
    hooks = Webhooks(
        exchange, desk, turned_away, way_back or WayBack(TwilioAccount("", exchange.settings.auth_token), exchange)
    )
    path = exchange.settings.voice_path

    async def voice(request: Request) -> Response:
        return await _answer(exchange, path, request, hooks.voice)

    async def after(request: Request) -> Response:
        return await _answer(exchange, f"{path}/after", request, hooks.after)

    async def status(request: Request) -> Response:
        return await _answer(exchange, f"{path}/status", request, hooks.status)

    for route, endpoint in ((path, voice), (f"{path}/after", after), (f"{path}/status", status)):
        routes.add_api_route(route, endpoint, methods=["POST", "GET"], include_in_schema=False)
    return routes


async def _answer(
    exchange: Exchange, path: str, request: Request, reply: Callable[[Webhook], Awaitable[str]]
) -> Response:
    try:
        webhook = await _read(exchange, path, request)
        answer = await exchange.book.answer_once(
            webhook.call_id,
            webhook.event,
            lambda: reply(webhook),
            within_s=RETRY_S if exchange.tokens else math.inf,
        )
    except PeerError as refused:
        return _refuse(request, refused)
    return Response(answer, media_type=twiml.CONTENT_TYPE) if answer else Response(status_code=204)


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
    is_signed = bool(exchange.settings.auth_token)
    if not (_TWILIO_CALL_ID if is_signed else CALL_ID).fullmatch(call_id):
        raise PeerError("a webhook names its call in CallSid", code="webhook.call_sid")
    # A checked signature is of this very address and these very fields.
    event = request.headers.get(SIGNATURE_HEADER if is_signed else "i-twilio-idempotency-token", "")
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
