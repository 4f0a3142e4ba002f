"""The objects of a LiveKit Agents plugin: made from settings or given, and called as they want to be.

What the three adapters share. LiveKit is imported when a provider starts and not before (about a second, 130 MB).

A plugin that speaks HTTP asks ``livekit.agents.utils.http_context`` for its session, which LiveKit's worker binds in
a context variable; outside of one, ``http_context.open()`` does (its own documentation names that way). The session is
bound in a context of ours here, and everything of a plugin's is called in copies of that.

Sources: the source of livekit-agents 1.8 (``_exceptions.py``, ``plugin.py``, ``utils/http_context.py``) and
docs.livekit.io "Agents" on plugins.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from antiphon.errors import ConfigError, MissingExtra, ProviderError, ProviderTimeout
from antiphon.providers.endpoints import api_key
from antiphon.providers.failures import error_for, failed, failure
from antiphon.secret import Secret, is_secret_name

log = logging.getLogger(__name__)

Kind = Literal["stt", "llm", "tts"]
T = TypeVar("T")

NAME = "livekit"
EXAMPLE = "livekit.plugins.deepgram:STT"
CLASSES = {"stt": "STT", "llm": "LLM", "tts": "TTS"}
"""The base class of each kind, in ``livekit.agents.<kind>``."""

CLOSE_S = 1.0
"""How long a plugin's stream may take to close; then it is left to itself."""

SHOWN_CHARS = 200
SHORTEST_SECRET = 8
"""What is shorter is a word that may stand in an error by chance."""

Seconds = Annotated[float, Meta(gt=0, le=600)]
Options = dict[str, Any]


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which plugin, and what its class is called with.

    ``plugin``: module and class, such as ``livekit.plugins.deepgram:STT``. ``options`` are its keyword arguments;
    ``languages`` has more of them for a BCP 47 tag, by which another object is made for calls in that language. The key
    is found by the plugin itself (most look for a variable named after the vendor), or in the variable that
    ``api_key_env`` names, and is then given as the option ``api_key_option``. ``connect_s``: how long the plugin may
    take to connect.
    """

    plugin: Annotated[str, Meta(pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")] = ""
    options: Options = {}
    languages: dict[str, Options] = {}
    api_key_env: str = ""
    api_key_option: str = "api_key"
    connect_s: Seconds = 5.0

    def __post_init__(self) -> None:
        for options in (self.options, *self.languages.values()):
            secret = next((key for key in options if is_secret_name(key)), "")
            if secret:
                raise ValueError(f"options: {secret} is a secret: name the variable that holds it in api_key_env")


class Plugin:
    """The objects of one kind that one plugin makes, or one object that somebody already has.

    What was given is not closed here: whoever made it closes it.
    """

    def __init__(self, kind: Kind, settings: PluginSettings, given: object | None = None) -> None:
        """Raises ``ConfigError`` unless there is either a plugin or an object, and where a named key is not set."""
        self.kind: Kind = kind
        self._where = f"[{kind}] {NAME}"
        if given is None and not settings.plugin:
            example = EXAMPLE.replace("STT", CLASSES[kind])
            raise ConfigError(f'{self._where}: plugin must be set, such as "{example}"', code="config.missing_value")
        if given is not None and (settings.plugin or settings.options or settings.languages):
            raise ConfigError(f"{self._where}: plugin, options and languages are for objects that are made here")
        self._settings = settings
        self._given = given
        self._objects: dict[str, Any] = {}
        self._key = Secret("")
        if settings.api_key_env:
            self._key = api_key(Secret(""), settings.api_key_env, self._where)
        self._context: contextvars.Context | None = None
        self._session: AbstractAsyncContextManager[Any] | None = None
        self._secrets: tuple[Secret, ...] = ()
        self._closing: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Imports LiveKit and the plugin, and makes its objects; does nothing when they are there.

        Raises ``MissingExtra`` and ``ConfigError``.
        """
        if self._context is not None:
            return
        http_context = _livekit("utils.http_context")
        if not hasattr(http_context, "open"):
            command = 'pip install --upgrade "livekit-agents>=1.6"'
            raise MissingExtra(NAME, "livekit-agents 1.6 or later", command=command)
        self._secrets = tuple(_secrets(self._key))
        context = contextvars.copy_context()
        session = http_context.open()
        await _within(context, session.__aenter__())
        self._context, self._session = context, session
        self._closing = asyncio.get_running_loop().create_future()
        try:
            self._make()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes what ``start`` made; whoever waits in ``next`` is told. May be called twice."""
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)
        context, self._context = self._context, None
        session, self._session = self._session, None
        if context is None:
            return
        objects, self._objects = self._objects, {}
        if self._given is None:
            for each in objects.values():
                await closed(_within(context.copy(), each.aclose()))
        if session is not None:
            await _within(context, session.__aexit__(None, None, None))

    def of(self, language: str) -> Any:
        """The object for a call in ``language``. Raises ``ProviderError`` (``closed``) before ``start``."""
        if not self._objects:
            raise self._closed()
        return self._objects.get(language) or self._objects.get(language.partition("-")[0]) or self._objects[""]

    def call(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Calls something of the plugin's. Raises ``ProviderError`` for whatever it raises."""
        try:
            return self._copy().run(function, *args, **named)
        except Exception as error:
            raise self.error(error) from error

    def task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs something of the plugin's that is awaited."""
        return asyncio.get_running_loop().create_task(work, context=self._copy())

    async def next(self, items: AsyncIterator[T]) -> T | None:
        """The next item of a plugin's stream; ``None`` at its end.

        Raises what the plugin does, and ``ProviderError`` (``closed``) when the provider is closed meanwhile.
        """
        assert self._closing is not None  # noqa: S101 - start() made it
        step = asyncio.get_running_loop().create_task(_item(items))
        waited: set[asyncio.Future[Any]] = {step, self._closing}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait({step})
        if step.cancelled():
            raise self._closed()
        return step.result()

    def options(self) -> Any:
        """LiveKit's own retries are off: some send half of the audio again, and all write the error to the log."""
        return _livekit("types").APIConnectOptions(max_retry=0, timeout=self._settings.connect_s)

    def error(self, error: BaseException, broken: str = "unreachable") -> ProviderError:
        """The coded error for what a plugin raised.

        ``broken`` is the code of a connection error: ``unreachable``, or ``cut`` once something had come.
        """
        if isinstance(error, ProviderError):
            return error
        stage = self.kind
        exceptions = _livekit("_exceptions")
        text = self._clean(str(error)) or type(error).__name__
        if isinstance(error, exceptions.APIStatusError):
            if not 300 <= error.status_code < 600:  # -1, or a WebSocket's closing code: the line broke
                return failed(text, "cut", NAME, stage)
            said = failure({"error": error.body} if isinstance(error.body, dict) else {"message": text})
            said = msgspec.structs.replace(said, message=self._clean(said.message))
            return error_for(error.status_code, said, NAME, stage)
        if isinstance(error, exceptions.APITimeoutError | TimeoutError):
            return ProviderTimeout(text, provider=NAME, stage=stage, code=f"{stage}.timeout_first_byte")
        if isinstance(error, exceptions.APIConnectionError):
            return failed(text, broken, NAME, stage)
        if isinstance(error, exceptions.APIError):
            return failed(text, "server", NAME, stage)
        return failed(f"the plugin raised {type(error).__name__}: {text}", "plugin", NAME, stage)

    def _copy(self) -> contextvars.Context:
        if self._context is None:
            raise self._closed()
        return self._context.copy()

    def _closed(self) -> ProviderError:
        return failed("the provider is closed, or not started", "closed", NAME, self.kind)

    def _clean(self, text: str) -> str:
        """Without any key, should the endpoint have repeated it."""
        for secret in self._secrets:
            text = text.replace(secret.reveal(), "***")
        return " ".join(text.split())[:SHOWN_CHARS]

    def _make(self) -> None:
        settings = self._settings
        base = getattr(_livekit(self.kind), CLASSES[self.kind])
        wanted = f"is no livekit.agents.{self.kind}.{base.__name__}"
        if self._given is not None:
            if not isinstance(self._given, base):
                raise ConfigError(f"{self._where}: an object of {type(self._given).__name__} {wanted}")
            self._objects = {"": self._given}
            return
        made = self._class(settings.plugin)
        if not (inspect.isclass(made) and issubclass(made, base)):
            raise ConfigError(f"{self._where}: plugin {settings.plugin} {wanted}")
        key = {settings.api_key_option: self._key.reveal()} if self._key else {}
        for language, more in {"": {}, **settings.languages}.items():
            try:
                self._objects[language] = self._copy().run(made, **{**settings.options, **more, **key})
            except Exception as error:  # noqa: BLE001 - a missing key is a ValueError as a rule, a wrong option a TypeError
                told = self._clean(str(error))
                raise ConfigError(f"{self._where}: {settings.plugin} cannot be made: {told}") from None

    def _class(self, plugin: str) -> Any:
        module, _, name = plugin.partition(":")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise ConfigError(f"{self._where}: plugin {plugin} cannot be imported: {error}") from error
            raise MissingExtra(
                NAME, f"The LiveKit plugin {module}", command=f"pip install {package_of(module)}"
            ) from error
        except (ImportError, AttributeError, RuntimeError) as error:
            # A RuntimeError: plugins have to be imported by the main thread.
            raise ConfigError(f"{self._where}: plugin {plugin} cannot be imported: {error}") from error


def package_of(module: str) -> str:
    """The package that a plugin's module comes in, as LiveKit names its own: ``livekit-plugins-deepgram``."""
    return re.sub(r"[._]", "-", module)


async def closed(closing: Coroutine[Any, Any, None]) -> None:
    """Waits for a plugin's stream or object to close, though not for ever. Raises nothing of the plugin's."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await closing
    except Exception as error:  # noqa: BLE001 - what is closed is wanted no more, whatever it thinks of that
        log.warning("a LiveKit plugin did not close as it should: %s", type(error).__name__)


async def _item(items: AsyncIterator[T]) -> T | None:
    async for item in items:
        return item
    return None


async def _within(context: contextvars.Context, work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.get_running_loop().create_task(work, context=context)


def _livekit(module: str) -> Any:
    """A module of ``livekit.agents``, by name: nothing else here should cost a second of importing."""
    try:
        return import_module(f"livekit.agents.{module}")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "livekit":
            raise MissingExtra(NAME, "LiveKit Agents") from error
        raise


def _secrets(key: Secret) -> Iterator[Secret]:
    """What must not be seen: our key, and those that a plugin may have found in the environment by itself."""
    values = [key.reveal(), *(value for name, value in os.environ.items() if is_secret_name(name.lower()))]
    yield from (Secret(value) for value in values if len(value) >= SHORTEST_SECRET)
