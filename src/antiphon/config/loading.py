"""Settings: one TOML file, overridden by the environment, overridden by the command line.

Order, the later wins: the defaults of the sections; the settings file (``--config``, else ``antiphon.toml`` in the
working directory if there is one); the secrets file; the deployment's usual variables (``ENVIRONMENT``);
``ANTIPHON_<SECTION>_<KEY>``; the command line. An unknown key is an error that names the nearest valid one. The
defaults work without any file, key or account.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from antiphon.config import services
from antiphon.config.sections import ENVIRONMENT, SECTIONS, Provider, ProviderSettings, Settings, SpeechSettings
from antiphon.errors import UNUSABLE, ConfigError
from antiphon.providers.service_wire import KEY_VARIABLE
from antiphon.providers.settings import bad_value, convert, secret_hook, unknown_key
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.stages import OPTIONS
from antiphon.secret import FILE_VARIABLE, Secret, file_secrets, has_password, is_secret_name
from antiphon.stores.choice import COMMAND_LINE, settle

DEFAULT_FILE = "antiphon.toml"
PREFIX = "ANTIPHON_"

RESERVED = frozenset({FILE_VARIABLE, KEY_VARIABLE, "ANTIPHON_CONFIG", "ANTIPHON_LANE"})
"""Not settings; the last is for building the package."""

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
    services.choose(tables, origins, warnings)
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
    secret_lines, notes = file_secrets(env)
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
    if provider and (key in {"fallback", "limits"} or key not in fields):
        if is_secret_name(key):
            return Secret(value)
        return _json_or_text(value) if value[:1] in "[{" else value
    if key not in fields:
        raise unknown_key(key, fields, f"{origin} [{section}]")
    if key == "level":
        value = value.upper()
    wanted: object = value
    bare = typing.get_args(fields[key])[0] if hasattr(fields[key], "__metadata__") else fields[key]
    if bare == tuple[str, ...]:
        wanted = _json_or_text(value) if value[:1] == "[" else [each.strip() for each in value.split(",")]
    elif typing.get_origin(bare) is dict:
        wanted = _json_or_text(value)
        if not isinstance(wanted, dict):
            text = f'{origin}: {section}.{key}: write it as JSON, such as {{"te-IN": "a voice"}}'
            raise ConfigError(text, code="config.bad_value")
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
    typed["limits"] = _limits(values.pop("limits", {}), OPTIONS[name], default.limits, f"{place} [{name}.limits]")
    if kind is SpeechSettings:
        typed["voice"] = values.pop("voice", "")
        typed["voices"] = values.pop("voices", {})
    return convert({**typed, "settings": values}, kind, where)


def _limits(table: object, options: Collection[str], default: StagePolicy, where: str) -> StagePolicy:
    """The stage's own limits, with what the settings change of them."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table of settings", code="config.bad_value")
    for key in table:
        if key not in options:
            raise unknown_key(key, options, where)
    return convert({**msgspec.structs.asdict(default), **table}, StagePolicy, where)


def _fallback(entry: Mapping[str, Any], where: str) -> Provider:
    if not isinstance(entry.get("provider"), str):
        near = difflib.get_close_matches("provider", entry, n=1, cutoff=0.5)
        has = ", ".join(map(repr, entry)) or "nothing"
        named = f"by {near[0]!r} you may mean 'provider'" if near else f"it has {has}"
        raise ConfigError(f"{where}: each fallback names its provider: {named}", code="config.missing_value")
    return Provider(provider=entry["provider"], settings={k: v for k, v in entry.items() if k != "provider"})


def _json_or_text(value: str | Secret) -> object:
    if isinstance(value, Secret):
        return value
    try:
        return msgspec.json.decode(value)
    except UNUSABLE:
        return value
