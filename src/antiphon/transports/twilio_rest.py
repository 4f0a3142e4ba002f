"""Twilio's REST API, as far as it is needed: an account is looked at, a call is redirected.

Source: Twilio, "Account resource" and "Call resource": ``/2010-04-01/Accounts/{sid}.json`` and below it
``/Calls/{sid}.json``, HTTP basic authentication with the account's sid and its token.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from antiphon.errors import UNUSABLE
from antiphon.secret import Secret

TWILIO_API = "https://api.twilio.com"
MAX_ANSWER_BYTES = 64 * 1024


class Answer(msgspec.Struct, frozen=True):
    """``status`` is HTTP's, 0 if there was no answer; ``body`` is empty where it was no JSON object."""

    status: int
    body: dict[str, Any] = {}


class TwilioAccount:
    """One account. Its methods block: call them in a thread. They raise nothing."""

    def __init__(self, account_sid: str, auth_token: Secret, base_url: str = TWILIO_API) -> None:
        self.is_set = bool(account_sid and auth_token)
        """Whether there is anything to ask with."""
        self._place = f"{base_url}/2010-04-01/Accounts/{quote(account_sid, safe='')}"
        pair = f"{account_sid}:{auth_token.reveal()}".encode()
        self._headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        self._opener = urllib.request.build_opener(_NoRedirect)

    def look(self, *, timeout_s: float) -> Answer:
        """The account itself; ``status`` in it is active, suspended or closed."""
        return self._ask(f"{self._place}.json", None, timeout_s)

    def redirect(self, call_id: str, url: str, *, timeout_s: float) -> Answer:
        """The call leaves what it does and goes on with the TwiML of ``url``. 21220: it is not in progress."""
        form = {"Url": url, "Method": "POST"}
        return self._ask(f"{self._place}/Calls/{quote(call_id, safe='')}.json", form, timeout_s)

    def _ask(self, url: str, form: Mapping[str, str] | None, timeout_s: float) -> Answer:
        data = urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(url, data, self._headers)  # noqa: S310 - a fixed https address
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return Answer(answer.status, _object(answer.read(MAX_ANSWER_BYTES)))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, _object(_read(refusal)))
        except (OSError, ValueError):  # no connection, no answer in time, no HTTP
            return Answer(0)


def _read(refusal: urllib.error.HTTPError) -> bytes:
    try:
        return refusal.read(MAX_ANSWER_BYTES)
    except OSError:
        return b""


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except UNUSABLE:
        return {}
    return found if isinstance(found, dict) else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for this address alone; the library would take it along."""

    def redirect_request(self, *_: Any) -> None:
        return None
