"""A way back for a call whose stream broke and that Twilio does not bring back by itself.

Twilio reports a stream that failed (``StreamEvent=stream-error``) and should then ask the ``action`` webhook, or go on
to the ``<Redirect>``. That it does so after an abrupt loss is not documented. So a call that nobody asked about for
``wait_s`` is redirected by Twilio's REST API to the same address as the ``<Redirect>``, where it is connected again
under its id, or hung up if it ended on purpose. It needs the account's sid besides its token, and is off without.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from urllib.parse import urlencode

from antiphon.transports.twilio_exchange import Exchange
from antiphon.transports.twilio_rest import TwilioAccount

WAIT_S = 3.0
"""Twilio's own way takes one round trip; a caller who hears nothing for longer hangs up."""
TRIES = 2
TRY_S = 4.0
MOST = 200
"""Calls that wait or are being redirected. Where more break at once something else is wrong."""

log = logging.getLogger("antiphon.server.twilio")


class WayBack:
    """Tell it of a stream that ``broke`` and of a call that Twilio ``asked`` about. One for each process.

    The report and the question may reach different processes: of those that share a book each knows; in a fleet without
    one such a call is connected once too often.
    """

    def __init__(self, account: TwilioAccount, exchange: Exchange, *, wait_s: float = WAIT_S) -> None:
        self._account = account
        self._settings = exchange.settings
        self._book = exchange.book
        self._wait_s = wait_s
        self._due: dict[str, asyncio.TimerHandle] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def broke(self, call_id: str) -> None:
        """Its stream failed, and Twilio said so."""
        known = call_id in self._due or call_id in self._under_way
        if not self._account.is_set or known or len(self._due) + len(self._under_way) >= MOST:
            return
        loop = asyncio.get_running_loop()
        self._due[call_id] = loop.call_later(self._wait_s, self._bring_back, call_id, self._book.asked(call_id))

    def asked(self, call_id: str) -> None:
        """A webhook asks what the call does next: nothing has to be done for it."""
        if self._account.is_set:
            self._book.note_asked(call_id)
        timer = self._due.pop(call_id, None)
        if timer is not None:
            timer.cancel()

    def _bring_back(self, call_id: str, asked: int) -> None:
        del self._due[call_id]
        if self._book.asked(call_id) == asked and not self._book.ended(call_id):
            task = self._under_way[call_id] = asyncio.ensure_future(self._redirect(call_id))
            task.add_done_callback(lambda _: self._under_way.pop(call_id))

    async def _redirect(self, call_id: str) -> None:
        told = {"call": call_id}
        language = self._book.language(call_id)
        query = {"resume": "1", "once": secrets.token_urlsafe(9)} | ({"language": language} if language else {})
        url = self._settings.http_url(f"{self._settings.voice_path}?{urlencode(query)}")
        for _ in range(TRIES):
            answer = await asyncio.to_thread(self._account.redirect, call_id, url, timeout_s=TRY_S)
            if 200 <= answer.status < 300:
                log.warning("the stream broke and nobody asked: the call was redirected", extra=told)
                return
            if answer.status not in {0, 429} and answer.status < 500:
                break  # it is over, or the account may not: no second try mends that
        why = answer.body.get("code") or answer.status or "no answer"
        log.error("the stream broke and the call could not be redirected: %s", why, extra=told)
