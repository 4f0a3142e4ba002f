"""Providers by name: the built-in ones, and those of other packages through entry points.

A package adds a speech recogniser called ``mine`` with these lines in its ``pyproject.toml``::

    [project.entry-points."antiphon.stt"]
    mine = "my_package.stt:build"

``build`` takes the provider's settings (a dict, as read from the settings file) and returns an object
that fits the port in ``antiphon.runtime.ports``. It must be quick: what is slow belongs into ``start``.
The built-in names are a table here and cannot be taken over by a package that happens to be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, overload

from antiphon.errors import AntiphonError, ConfigError
from antiphon.runtime.ports import Classifier, Responder, Retriever, Synthesizer, Transcriber

Kind = Literal["stt", "llm", "tts", "intent", "retrieval"]

BUILT_IN: dict[str, tuple[str, ...]] = {
    "stt": ("pocketsphinx", "sarvam", "whisper", "faster_whisper", "livekit", "http", "fake"),
    "llm": ("extractive", "openai", "gemini", "livekit", "fake"),
    "tts": ("espeak", "piper", "elevenlabs", "sarvam", "livekit", "http", "fake"),
    "intent": ("minilm", "http", "none", "fake"),
    "retrieval": ("minilm", "lexical", "http", "none", "fake"),
}
"""The names of each kind; ``name`` is built by ``antiphon.providers.<kind>.<name>.build``."""


@overload
def load(kind: Literal["stt"], name: str, settings: Mapping[str, object] | None = ...) -> Transcriber: ...
@overload
def load(kind: Literal["llm"], name: str, settings: Mapping[str, object] | None = ...) -> Responder: ...
@overload
def load(kind: Literal["tts"], name: str, settings: Mapping[str, object] | None = ...) -> Synthesizer: ...
@overload
def load(kind: Literal["intent"], name: str, settings: Mapping[str, object] | None = ...) -> Classifier: ...
@overload
def load(kind: Literal["retrieval"], name: str, settings: Mapping[str, object] | None = ...) -> Retriever: ...
def load(kind: Kind, name: str, settings: Mapping[str, object] | None = None) -> Any:
    """Builds the provider; it is not started yet.

    Raises ``ConfigError`` for an unknown kind or name (listing what exists), a package that cannot be
    imported, or settings the provider refuses, and ``MissingExtra`` where an optional dependency is absent.
    """
    return _build_function(kind, name)(dict(settings or {}))


def names(kind: Kind) -> tuple[str, ...]:
    """All names of a kind: built-in ones first, then those of installed packages."""
    built_in = BUILT_IN[kind]
    return built_in + tuple(sorted({point.name for point in _points(kind)} - set(built_in)))


def _build_function(kind: Kind, name: str) -> Callable[[dict[str, object]], object]:
    if kind not in BUILT_IN:
        raise ConfigError(f"there is no kind of provider {kind!r}: there are {', '.join(BUILT_IN)}")
    if name in BUILT_IN[kind]:
        module = import_module(f"antiphon.providers.{kind}.{name}")
        function: Callable[[dict[str, object]], object] = module.build
        return function
    points = [point for point in _points(kind) if point.name == name]
    if not points:
        raise ConfigError(
            f"[{kind}] provider: there is no {name!r}: choose one of {', '.join(names(kind))}, "
            f'or install a package with an entry point of that name in "antiphon.{kind}"',
            code="config.unknown_provider",
        )
    if len({point.value for point in points}) > 1:
        owners = ", ".join(sorted(point.dist.name if point.dist else point.value for point in points))
        raise ConfigError(
            f"[{kind}] provider: {name!r} comes from more than one package ({owners}): uninstall all but one",
            code="config.ambiguous_provider",
        )
    try:
        loaded: Callable[[dict[str, object]], object] = points[0].load()
    except AntiphonError:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"[{kind}] provider: {name!r} ({points[0].value}) cannot be imported: {error}",
            code="config.broken_provider",
        ) from error
    return loaded


def _points(kind: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"antiphon.{kind}"))
