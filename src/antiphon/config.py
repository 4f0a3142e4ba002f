"""Settings: one TOML file, overridden by the environment, overridden by the command line.

Order, the later wins: the defaults here; the settings file (``--config``, else ``antiphon.toml`` in the
working directory if there is one); the secrets file; the deployment's usual variables (``ENVIRONMENT``
below: B21 to B23); ``ANTIPHON_<SECTION>_<KEY>``; the command line. An unknown key is an error that
names the nearest valid one. The defaults work without any file, key or account.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError
from antiphon.providers.settings import bad_value, convert, secret_hook, unknown_key
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.stages import Limits
from antiphon.secret import FILE_VARIABLE, Secret, has_password, is_secret_name, read_secrets
from antiphon.stores.choice import COMMAND_LINE, settle

DEFAULT_FILE = "antiphon.toml"
PREFIX = "ANTIPHON_"

ENVIRONMENT = {
    "MAX_CONCURRENT_SESSIONS": "server.max_sessions",
    "SESSION_TTL_SECONDS": "server.session_ttl_s",
    "LOG_LEVEL": "log.level",
    "TWILIO_AUTH_TOKEN": "twilio.auth_token",
    "TWILIO_ACCOUNT_SID": "twilio.account_sid",
    "ANTIPHON_JOURNAL": "journal.path",
    "REDIS_URL": "journal.url",
}
"""Variables known by a name of their own (contract rows B16, B21, B22, B23)."""

RESERVED = frozenset({FILE_VARIABLE, "ANTIPHON_CONFIG"})

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
    session_ttl_s: Annotated[Seconds, Meta(description="how long a call whose line broke is waited for, seconds")] = (
        3600.0
    )
    allow_open: Annotated[bool, Meta(description="listen beyond this machine without authentication")] = False
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

    message_ms: Annotated[int, Meta(ge=20, le=200, description="audio per outbound message, ms")] = 20
    lead_ms: Annotated[int, Meta(ge=0, le=2000, description="how far ahead of real time audio is sent, ms")] = 120
    inactivity_s: Annotated[Seconds, Meta(description="a line without any message for this long is closed")] = 300.0


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

NO_FALLBACK = frozenset({"intent", "retrieval"})
"""A turn goes on without an intent or passages, so these have nobody to fall back to."""


def load(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Reads the settings. ``overrides`` maps ``section.key`` to values from the command line.

    Raises ``ConfigError`` for a file that is missing or is no TOML, an unknown key, a value of the wrong
    type or out of range, and a secret written into the file.
    """
    env = os.environ if environ is None else environ
    place, tables = _read(path, env)
    warnings: list[str] = []
    origins: dict[tuple[str, str], str] = {}
    for (section, key), (text, origin) in _from_environment(env, warnings).items():
        tables.setdefault(section, {})[key] = _json_or_text(text) if section == "policy" else text
        origins[section, key] = origin
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        if section not in SECTIONS and section != "policy":
            raise unknown_key(section, (*SECTIONS, "policy"), COMMAND_LINE)
        tables.setdefault(section, {})[key] = value
        origins[section, key] = COMMAND_LINE
    settle(tables.get("journal", {}), origins)
    made: dict[str, Any] = {"source": str(place or ""), "warnings": tuple(warnings)}
    for name, table in tables.items():
        made[name] = table if name == "policy" else _section(name, table, str(place or "defaults"), origins)
    return Settings(**made)


def _read(path: str | Path | None, env: Mapping[str, str]) -> tuple[Path | None, dict[str, dict[str, Any]]]:
    chosen = path or env.get("ANTIPHON_CONFIG")
    place = Path(chosen) if chosen else Path(DEFAULT_FILE)
    if not chosen and not place.is_file():
        return None, {}
    try:
        raw = tomllib.loads(place.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except OSError as error:
        raise ConfigError(f"{place}: the settings file cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: the settings file is not TOML: {error}", code="config.not_toml") from None
    for name, table in raw.items():
        if name not in SECTIONS and name != "policy":
            raise unknown_key(name, (*SECTIONS, "policy"), str(place))
        if not isinstance(table, dict):
            raise ConfigError(f"{place}: {name} must be a table: write [{name}]", code="config.bad_value")
        _refuse_secrets(name, table, str(place))
    return place, raw


def _refuse_secrets(section: str, table: Mapping[str, Any], place: str) -> None:
    for key, value in table.items():
        if (is_secret_name(key) and value) or (isinstance(value, str) and has_password(value)):
            variable = next((v for v, at in ENVIRONMENT.items() if at == f"{section}.{key}"), None)
            variable = variable or f"{PREFIX}{section}_{key}".upper()
            raise ConfigError(
                f"{place}: {section}.{key} is a secret and does not belong in this file: "
                f"set {variable} in the environment or in the file that {FILE_VARIABLE} names",
                code="config.secret_in_file",
            )
        for entry in value if key == "fallback" and isinstance(value, list) else ():
            if isinstance(entry, dict):
                _refuse_secrets(section, entry, place)


def _from_environment(env: Mapping[str, str], warnings: list[str]) -> dict[tuple[str, str], tuple[str | Secret, str]]:
    """``(section, key)`` to value and where it came from."""
    secret_lines: dict[str, str] = {}
    if env.get(FILE_VARIABLE):
        secret_lines, notes = read_secrets(env[FILE_VARIABLE])
        warnings.extend(notes)
    found: dict[tuple[str, str], tuple[str | Secret, str]] = {}
    for source, label in ((secret_lines, f"{FILE_VARIABLE}: "), (env, "environment variable ")):
        for variable, dotted in ENVIRONMENT.items():
            if source.get(variable):
                section, _, key = dotted.partition(".")
                found[section, key] = (source[variable], label + variable)
        for variable in sorted(source):
            if not variable.startswith(PREFIX) or variable in RESERVED or variable in ENVIRONMENT:
                continue
            section, _, key = variable.removeprefix(PREFIX).lower().partition("_")
            if key and (section in SECTIONS or section == "policy"):
                found[section, key] = (source[variable], label + variable)
            elif not variable.startswith(("ANTIPHON_SERVICE_", "ANTIPHON_PORT")):  # set by Kubernetes for a Service
                warnings.append(f"{variable} is not a setting: it would be {PREFIX}<SECTION>_<KEY>")
    return found


def _section(name: str, table: dict[str, Any], place: str, origins: Mapping[tuple[str, str], str]) -> msgspec.Struct:
    kind = SECTIONS[name]
    values = dict(table)
    for (section, key), origin in origins.items():
        if section == name:
            values[key] = _typed(kind, section, key, values[key], origin)
    if issubclass(kind, ProviderSettings):
        return _provider_section(name, kind, values, place)
    _check_types(kind, name, values, place)
    return convert(values, kind, f"{place} [{name}]")


def _typed(kind: type[msgspec.Struct], section: str, key: str, value: object, origin: str) -> object:
    """Text from the environment as the field's own type; a provider's own keys are typed by the provider."""
    if not isinstance(value, str):
        return value
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    provider = issubclass(kind, ProviderSettings)
    if provider and (key == "fallback" or key not in fields):
        if is_secret_name(key):
            return Secret(value)
        return _json_or_text(value) if value[:1] in "[{" else value
    if key not in fields:
        raise unknown_key(key, fields, f"{origin} [{section}]")
    if key == "level":
        value = value.upper()
    wanted: object = value
    if fields[key] == tuple[str, ...]:
        wanted = _json_or_text(value) if value[:1] == "[" else [each.strip() for each in value.split(",")]
    try:
        made: object = msgspec.convert(wanted, fields[key], strict=False, dec_hook=secret_hook)
    except msgspec.ValidationError as error:
        raise bad_value(f"{section}.{key}", error, origin, fields[key]) from None
    return made


def _check_types(kind: type[msgspec.Struct], name: str, values: Mapping[str, Any], place: str) -> None:
    """In the file a number is written as a number, so that a typing error does not pass for one."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in values.items():
        if key in fields and not isinstance(value, Secret):
            try:
                msgspec.convert(value, fields[key], dec_hook=secret_hook)
            except msgspec.ValidationError as error:
                raise bad_value(f"{name}.{key}", error, place, fields[key]) from None


def _provider_section(name: str, kind: type[ProviderSettings], values: dict[str, Any], place: str) -> ProviderSettings:
    where = f"{place} [{name}]"
    default = getattr(Settings(), name)
    typed: dict[str, Any] = {"provider": values.pop("provider", default.provider)}
    fallback = values.pop("fallback", ())
    if fallback and name in NO_FALLBACK:
        raise ConfigError(f"{where}: {name} takes no fallback: the turn goes on without it", code="config.bad_value")
    if not isinstance(fallback, list | tuple) or not all(isinstance(entry, dict) for entry in fallback):
        raise ConfigError(
            f'{where}: fallback must be a list such as [{{ provider = "fake" }}]', code="config.bad_value"
        )
    typed["fallback"] = tuple(_fallback(entry, where) for entry in fallback)
    typed["limits"] = _limits(values.pop("limits", {}), default.limits, f"{where}.limits")
    if kind is SpeechSettings:
        typed["voice"] = values.pop("voice", "")
        typed["voices"] = values.pop("voices", {})
    return convert({**typed, "settings": values}, kind, where)


def _limits(table: object, default: StagePolicy, where: str) -> StagePolicy:
    """The stage's own limits, with what the settings change of them."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table of settings", code="config.bad_value")
    return convert({**msgspec.structs.asdict(default), **table}, StagePolicy, where)


def _fallback(entry: Mapping[str, Any], where: str) -> Provider:
    if not isinstance(entry.get("provider"), str):
        raise ConfigError(f"{where}: each fallback names its provider", code="config.missing_value")
    return Provider(provider=entry["provider"], settings={k: v for k, v in entry.items() if k != "provider"})


def _json_or_text(value: str | Secret) -> object:
    if isinstance(value, Secret):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _shown(value: object) -> object:
    if isinstance(value, Secret):
        return "***" if value else ""
    return str(value)
