"""What can be set: the sections, their keys with defaults and bounds, and the variables with names of their own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from antiphon.providers.service_wire import PLACES
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.stages import Limits
from antiphon.secret import Secret

ENVIRONMENT = {
    "MAX_CONCURRENT_SESSIONS": "server.max_sessions",
    "SESSION_TTL_SECONDS": "server.session_ttl_s",
    "LOG_LEVEL": "log.level",
    "TWILIO_AUTH_TOKEN": "twilio.auth_token",
    "TWILIO_ACCOUNT_SID": "twilio.account_sid",
    "ANTIPHON_JOURNAL": "journal.path",
    "ANTIPHON_SERVER_API_KEYS": "server.api_keys",
    "ANTIPHON_SERVER_TOKEN_SECRET": "server.token_secret",
    "REDIS_URL": "journal.url",
    **{place.variable: f"{stage}.url" for stage, place in PLACES.items()},
}
"""Variables known by a name of their own (contract rows B16 to B23)."""

Seconds = Annotated[float, Meta(ge=0, le=86_400)]

LIMITS = Limits()
"""What the stages may take, unless ``[<stage>.limits]`` says otherwise."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server listens and how much it takes on."""

    host: Annotated[str, Meta(description="address to listen on; others than 127.0.0.1 need authentication")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535, description="0 takes any free port")] = 8004
    public_url: Annotated[str, Meta(description='what the carrier calls, such as "https://voice.example.org"')] = ""
    drain_s: Annotated[Seconds, Meta(description="how long calls may go on after a request to stop, seconds")] = 30.0
    tls_cert: Annotated[str, Meta(description="PEM file; set both or neither")] = ""
    tls_key: Annotated[str, Meta(description="PEM file")] = ""
    max_sessions: Annotated[int, Meta(ge=1, le=100_000, description="calls above this are refused")] = 1000
    workers: Annotated[
        int,
        Meta(ge=0, le=64, description="processes that share the port and the calls, one a core; 0: one for every core"),
    ] = 1
    session_ttl_s: Annotated[Seconds, Meta(description="how long a call whose line broke is waited for, seconds")] = (
        3600.0
    )
    allow_open: Annotated[bool, Meta(description="beyond this machine, whoever reaches the port may do everything")] = (
        False
    )
    api_keys: Annotated[
        Secret, Meta(description="whoever sends one may begin and read sessions; several with commas between")
    ] = Secret("")
    token_secret: Annotated[
        Secret,
        Meta(description="signs sessions' tokens, 32 bytes or more; several with commas between, the first signs"),
    ] = Secret("")
    """None: one is made when the server starts, and its tokens are good at this server alone."""
    token_ttl_s: Annotated[
        int, Meta(ge=10, le=86_400, description="how long a session's token opens a line or a view, seconds")
    ] = 300
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="whose X-Forwarded-For is believed: addresses or networks, such as 10.0.0.0/8"),
    ] = ("127.0.0.1", "::1")
    origins: Annotated[
        tuple[str, ...],
        Meta(description='other web pages that may use an open server, such as "http://localhost:5173"'),
    ] = ()
    watchdog_s: Annotated[
        Seconds, Meta(description="a process that stands still for this long ends itself, seconds; 0: never")
    ] = 5.0
    """Longer than a busy machine ever stands still: where nobody takes over, the end of the process is every call's.
    Where another process does, 1 s is better."""

    def __post_init__(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key: set both or neither")
        if self.public_url and not self.public_url.startswith(("https://", "http://")):
            raise ValueError("public_url must begin with https:// or http://")


class LineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The media line."""

    message_ms: Annotated[int, Meta(ge=20, le=200, description="audio per outbound message, ms")] = 100
    lead_ms: Annotated[int, Meta(ge=0, le=2000, description="how far ahead of real time audio is sent, ms")] = 200
    inactivity_s: Annotated[Seconds, Meta(description="a line without any message for this long is closed")] = 300.0

    def __post_init__(self) -> None:
        if self.lead_ms < self.message_ms:
            raise ValueError(f"lead_ms is {self.lead_ms}: give message_ms, {self.message_ms}, or more")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One provider: its name, and the settings that are its own."""

    provider: str
    settings: dict[str, Any] = {}


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A provider and those that take over when it fails, in order."""

    provider: str
    settings: dict[str, Any] = {}
    fallback: tuple[Provider, ...] = ()
    limits: StagePolicy = StagePolicy()

    def chain(self) -> tuple[Provider, ...]:
        """The provider and its fallbacks."""
        return (Provider(provider=self.provider, settings=self.settings), *self.fallback)


class SpeechSettings(ProviderSettings, frozen=True, kw_only=True):
    """Text to speech. A voice is given to the provider with each text; "" is its own choice."""

    voice: Annotated[str, Meta(description="the provider's name of a voice")] = ""
    voices: Annotated[dict[str, str], Meta(description='per language, such as { te-IN = "anushka" }')] = {}


class LanguageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """BCP 47 tags."""

    default: Annotated[str, Meta(description="what a call begins in")] = "en-IN"
    offered: tuple[str, ...] = ("en-IN", "hi-IN", "te-IN", "gu-IN")
    folder: Annotated[str, Meta(description="corrected or further language files, <tag>.toml")] = ""

    def __post_init__(self) -> None:
        if self.default not in self.offered:
            raise ValueError(f"default {self.default!r} is not among offered")


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where conversations are kept: in a file, or where there is a ``url``, on that server."""

    path: Annotated[str, Meta(description="SQLite file; its folder is made")] = ".antiphon/journal.sqlite"
    url: Annotated[
        Secret,
        Meta(
            description="instead of the file, a Redis that several servers share: redis://host:6379/0, rediss://, "
            "redis+cluster://, unix://"
        ),
    ] = Secret("")
    synchronous: Annotated[
        Literal["full", "normal", "off"], Meta(description="full survives a power cut, normal a crash, off neither")
    ] = "full"
    keep_days: Annotated[
        int,
        Meta(ge=0, le=36_500, description="conversations that are over are deleted from the file after days; 0: never"),
    ] = 0
    """0: to delete for good is for whoever runs the server to decide."""

    @property
    def place(self) -> str:
        """The URL, which may hold a password, or else the path."""
        return self.url.reveal() or self.path


class TwilioSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The account whose calls come in. The token is a secret: ``TWILIO_AUTH_TOKEN``."""

    auth_token: Annotated[Secret, Meta(description="signs the webhooks")] = Secret("")
    account_sid: str = ""
    language_menu: Annotated[
        Literal["on", "off"], Meta(description="where several languages are offered, callers choose one first")
    ] = "on"
    """On: nobody knows in which language a caller will be able to follow the greeting."""
    say_voices: Annotated[
        dict[str, str], Meta(description='Twilio\'s voices for the menu, such as { te-IN = "Google.te-IN-Standard-B" }')
    ] = {}


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the program says while it runs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Annotated[Literal["console", "json"], Meta(description="json: one object a line")] = "console"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, checked. ``source`` is the file they came from; ``warnings`` are for a person to read."""

    server: ServerSettings = ServerSettings()
    line: LineSettings = LineSettings()
    stt: ProviderSettings = ProviderSettings(provider="pocketsphinx", limits=LIMITS.stt)
    llm: ProviderSettings = ProviderSettings(provider="extractive", limits=LIMITS.llm)
    tts: SpeechSettings = SpeechSettings(provider="espeak", limits=LIMITS.tts)
    intent: ProviderSettings = ProviderSettings(provider="minilm", limits=LIMITS.intent)
    retrieval: ProviderSettings = ProviderSettings(provider="minilm", limits=LIMITS.retrieval)
    languages: LanguageSettings = LanguageSettings()
    policy: dict[str, Any] = {}
    journal: JournalSettings = JournalSettings()
    twilio: TwilioSettings = TwilioSettings()
    log: LogSettings = LogSettings()
    source: str = ""
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for showing; a secret is ``"***"`` if it is set and ``""`` if not."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=_shown)
        return plain


SECTIONS: dict[str, type[msgspec.Struct]] = {
    name: type(getattr(Settings(), name))
    for name in Settings.__struct_fields__
    if name not in {"source", "warnings", "policy"}
}
"""The typed sections; ``policy`` is a free table that the kernel checks."""


def _shown(value: object) -> object:
    if isinstance(value, Secret):
        return "***" if value else ""
    return str(value)
