"""One error tree with stable codes.

Every error says whose fault it was (``ours``, ``peer``: the caller's client or the carrier,
``provider``: a speech, language or data service), carries a stable code that logs, metrics, the
journal and clients can rely on, and says in its text what to do.
"""

from __future__ import annotations

from typing import ClassVar, Final

UNUSABLE: Final = (ValueError, RecursionError)
"""What a decoder raises for bytes from outside that it cannot read: msgspec's, ``json`` and ``bytes.decode`` alike.

``msgspec.DecodeError`` is a ValueError, and so is the ``UnicodeDecodeError`` that msgspec raises for bad UTF-8 within
a string; deep nesting is a RecursionError. Nothing but the decoding stands within the ``try``.
"""


class AntiphonError(Exception):
    """Base of every error that Antiphon raises on purpose.

    ``code`` is stable across releases and fits ``[a-z][a-z0-9_.]*``; the text may change.
    """

    fault: ClassVar[str] = "ours"
    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    def __str__(self) -> str:
        return f"[{self.code}] {super().__str__()}"


class ConfigError(AntiphonError):
    """A setting is missing, unknown or out of range. The text names the setting and the fix."""

    default_code = "config"


class MissingExtra(AntiphonError):
    """An optional dependency is not installed. The text holds the exact command that installs it."""

    default_code = "missing_extra"

    def __init__(self, extra: str, needed_for: str, *, command: str | None = None) -> None:
        self.extra = extra
        self.command = command or f'pip install "antiphon[{extra}]"'
        super().__init__(f"{needed_for} is not installed: run {self.command}")


class ChartError(AntiphonError):
    """A chart is wrong: an unreachable state, a dead end, a state without a deadline."""

    default_code = "chart"


class ReplayDiverged(AntiphonError):
    """Folding a journal again decided other commands than the first time did."""

    default_code = "replay.diverged"

    def __init__(self, seq: int, message: str) -> None:
        self.seq = seq
        super().__init__(message)


class PeerError(AntiphonError):
    """The other end of a line sent something that cannot be used."""

    fault = "peer"
    default_code = "peer"


class BadFrame(PeerError):
    """One message could not be used. It is counted and dropped; the call goes on."""

    default_code = "peer.bad_frame"


class FrameTooLarge(PeerError):
    """A message is over the size cap. The line is closed with WebSocket code 1009."""

    default_code = "peer.frame_too_large"


class AdmissionRefused(AntiphonError):
    """No room for another session. ``retry_after_s`` says when to try again."""

    default_code = "admission.full"

    def __init__(self, message: str, *, retry_after_s: int = 1, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class NotAllowed(PeerError):
    """The request did not prove who it is."""

    default_code = "auth.refused"


class Forbidden(NotAllowed):
    """It is known who asks, or what page does, and this is not theirs."""

    default_code = "auth.forbidden"


class TooManyAttempts(NotAllowed):
    """Too many wrong credentials came from one address. ``retry_after_s`` says when the next is looked at."""

    default_code = "auth.too_many_attempts"

    def __init__(self, message: str, *, retry_after_s: int = 1, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ProviderError(AntiphonError):
    """A provider did not do its work.

    ``stage`` is one of ``stt``, ``intent``, ``retrieval``, ``llm``, ``tts``, ``agent``;
    ``retryable`` says whether the same request may succeed when sent again.
    """

    fault = "provider"
    default_code = "provider.failed"

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        stage: str = "",
        code: str | None = None,
        retryable: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.provider = provider
        self.stage = stage
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ProviderTimeout(ProviderError):
    """Nothing useful came in time."""

    default_code = "provider.timeout"


class ProviderRefused(ProviderError):
    """The provider refuses our credentials or our request; trying again will not help."""

    default_code = "provider.refused"

    def __init__(self, message: str, *, provider: str = "", stage: str = "", code: str | None = None) -> None:
        super().__init__(message, provider=provider, stage=stage, code=code, retryable=False)


class StoreError(AntiphonError):
    """The journal's store failed. The call goes on in memory; health says degraded."""

    default_code = "store.failed"


class StaleWriter(StoreError):
    """Another process has taken this session over (a newer epoch, or entries we do not know of)."""

    default_code = "store.stale_writer"


class UnknownSession(StoreError):
    """No session of that id is in the store."""

    default_code = "store.unknown_session"
