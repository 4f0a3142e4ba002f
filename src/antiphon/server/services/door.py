"""Who may use a service, how many at once, and what a failure is answered with: the same for all four.

A service is for programs, which have its key; one without a key is for this machine alone (``server.run`` refuses any
other address), and there a browser's page, which anybody may have written, is turned away by its ``Origin``.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Generator, Mapping

from antiphon.errors import AdmissionRefused, AntiphonError, Forbidden, NotAllowed, ProviderError, ProviderTimeout
from antiphon.secret import Secret
from antiphon.server.answers import Refusal, refusal_for, refuse


class Door:
    """``key``: what a client has to show; "" lets everybody in. ``capacity``: requests and sockets at once.

    Fits ``server.app.Sessions``.
    """

    def __init__(self, key: Secret, capacity: int) -> None:
        self._key = key
        self.active = 0
        self.capacity = capacity

    def check(self, headers: Mapping[str, str]) -> None:
        """``headers`` by lower-case name. Raises ``NotAllowed``, ``Forbidden`` and ``AdmissionRefused``."""
        if "origin" in headers and not self._key:
            raise Forbidden("this service is for programs, not for pages in a browser", code="auth.origin")
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if self._key:
            same = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self._key.reveal().encode())
            if scheme.lower() != "bearer" or not same:
                raise NotAllowed("show this service's key: Authorization: Bearer <ANTIPHON_SERVICE_KEY>")
        if self.active >= self.capacity:
            raise AdmissionRefused(f"{self.capacity} at once is all that this service takes")

    def enter(self) -> None:
        self.active += 1

    def leave(self) -> None:
        self.active -= 1

    @contextlib.contextmanager
    def inside(self, headers: Mapping[str, str]) -> Generator[None, None, None]:
        """Raises as ``check`` does."""
        self.check(headers)
        self.enter()
        try:
            yield
        finally:
            self.leave()


def answered(error: AntiphonError) -> Refusal:
    """What the client is told: a provider's failure is the service's own, under the code that the provider gave it."""
    if not isinstance(error, ProviderError):
        return refusal_for(error)
    wait = {} if error.retry_after_s is None else {"retry-after": str(max(1, round(error.retry_after_s)))}
    if error.code.endswith(".rate_limited"):
        return refuse(429, error.code, "too many requests at once", wait)
    if isinstance(error, ProviderTimeout):
        return refuse(504, error.code, "no answer in time", wait)
    if not error.retryable and not _is_ours(error.code):
        return refuse(422, error.code, "this cannot be done: " + str(error.args[0] if error.args else error.code))
    return refuse(502, error.code, "the provider failed", wait)


def _is_ours(code: str) -> bool:
    """Refusals that are not about the request: what the operator has to mend."""
    return code.rpartition(".")[2] in {"unauthorized", "quota", "not_found", "bad_endpoint", "closed"}
