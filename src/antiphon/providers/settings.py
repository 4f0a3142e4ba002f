"""From a table of settings to a typed struct, with errors that name the key, the place and the fix."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from antiphon.errors import ConfigError
from antiphon.secret import Secret

StructT = TypeVar("StructT", bound=msgspec.Struct)


def unknown_key(key: str, valid: Iterable[str], where: str) -> ConfigError:
    """The error for a key that does not exist: names it, the nearest that does, and all that do."""
    names = sorted(valid)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = f"it knows {', '.join(names)}" if names else "it takes no settings"
    return ConfigError(f"{where}: there is no setting {key!r}: {hint}{known}", code="config.unknown_key")


def bad_value(key: str, error: msgspec.ValidationError, where: str, type: Any = None) -> ConfigError:
    """The error for a value of the wrong type or out of range, from msgspec's own words and ``type``'s choices."""
    reason, _, at = str(error).partition(" - at ")
    path = at.strip("`").lstrip("$").lstrip(".")
    full = ".".join(part for part in (key, path) if part)
    bare = typing.get_args(type)[0] if hasattr(type, "__metadata__") else type
    choices = typing.get_args(bare) if typing.get_origin(bare) is typing.Literal else ()
    fix = f": choose one of {', '.join(map(str, choices))}" if choices else ""
    return ConfigError(f"{where}: {full or 'value'}: {reason[:1].lower()}{reason[1:]}{fix}", code="config.bad_value")


def convert(settings: Mapping[str, object], type: type[StructT], where: str) -> StructT:
    """Makes ``type`` out of ``settings``; ``where`` names the place for errors, such as ``[llm] openai``.

    Text is turned into numbers and booleans where the field wants them, since settings also come from
    the environment; so is ``Secret`` from text. Raises ``ConfigError`` (``config.unknown_key``,
    ``config.bad_value``).
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(type)}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in fields:
            raise unknown_key(key, fields, where)
        try:
            values[key] = msgspec.convert(value, fields[key].type, strict=False, dec_hook=secret_hook)
        except msgspec.ValidationError as error:
            raise bad_value(key, error, where, fields[key].type) from None
    missing = [name for name, field in fields.items() if field.required and name not in values]
    if missing:
        raise ConfigError(f"{where}: {missing[0]} must be set", code="config.missing_value")
    try:
        return type(**{fields[key].name: value for key, value in values.items()})
    except ValueError as error:  # a struct's own __post_init__ says what does not fit together
        raise ConfigError(f"{where}: {error}", code="config.bad_value") from None


def secret_hook(type: type, value: object) -> object:
    """``dec_hook`` for ``msgspec.convert``: makes a ``Secret`` out of text."""
    if type is Secret and isinstance(value, Secret | str):
        return value if isinstance(value, Secret) else Secret(value)
    raise msgspec.ValidationError(f"Expected `{type.__name__}`")
