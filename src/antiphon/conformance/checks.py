"""What the kits are made of: a check, what it is given, and the runner.

A check is ``async def check(subject: Subject[Port]) -> None``. It makes its own provider, closes it again and
raises ``ConformanceError`` saying what is wrong. Its docstring says what is owed, and what a caller would hear if
it were not. Times are the running loop's, so a kit runs as well on a loop with virtual time.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import textwrap
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from antiphon.conformance.voice import made_up_voice
from antiphon.errors import ProviderError

LIMIT_S = 20.0
"""A check that takes longer is taken for one that hangs."""

SOON_S = 1.0
"""Within which a request that is not wanted any more has to be over: its caller is waiting for another."""

GRACE_S = 0.05
"""How long a check listens for what must not come."""

ODD_TEXTS = (
    "",
    " \n\t ",
    "…?!",
    "a\x00b\x07c",
    "\ud800",
    "👩‍👩‍👧 👍🏽",
    "नमस्ते, फीस ₹1,250.50 है।",
    "مرحبا",
    "\"}] ' OR 1=1; -- <speak>{{x}}</speak> */",
    "word " * 800,
)
"""What transcribers, models and typing callers do send: nothing, signs, control characters, other scripts, markup,
a lone surrogate, and 4000 characters."""

_CODE = re.compile(r"[a-z][a-z0-9_.]*")

T = TypeVar("T")
PortT = TypeVar("PortT")


class ConformanceError(AssertionError):
    """A provider does not do what its port asks for."""


@dataclass(frozen=True)
class Sample:
    """What the checks say to a provider; replace what yours does not understand.

    ``short`` is one or two words, ``long`` a sentence of 80 to 200 characters, both in ``language``; ``question``
    is what a caller asks. ``speech`` is PCM at 8000 Hz, one to five seconds that a detector takes for a voice.
    """

    language: str = "en-IN"
    question: str = "What are the admission requirements?"
    short: str = "Yes."
    long: str = "You need a bachelor's degree, two letters of reference, and a certificate of your English."
    speech: bytes = field(default_factory=made_up_voice, repr=False)


@dataclass(frozen=True)
class Subject(Generic[PortT]):
    """What a check is given. ``make`` returns a new provider, not yet started, each time."""

    make: Callable[[], PortT]
    sample: Sample = field(default_factory=Sample)


@dataclass(frozen=True)
class Kit(Generic[PortT]):
    """The checks of one port, in the order they are run."""

    port: str
    checks: tuple[Callable[[Subject[PortT]], Awaitable[None]], ...]


class Result(msgspec.Struct, frozen=True):
    """What became of one check. ``error`` is empty if it passed; ``seconds`` by the loop's clock."""

    port: str
    check: str
    obligation: str
    error: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.error


def run(kit: Kit[PortT], make: Callable[[], PortT], sample: Sample | None = None) -> list[Result]:
    """Runs all checks of a kit, each on a provider of its own, and returns what became of each.

    Raises nothing for a provider that does not conform: look at ``Result.passed``.
    """
    return asyncio.run(examine(kit, make, sample))


async def examine(kit: Kit[PortT], make: Callable[[], PortT], sample: Sample | None = None) -> list[Result]:
    """``run`` for a loop that runs already."""
    subject = Subject(make, sample or Sample())
    return [await _examined(kit.port, check, subject) for check in kit.checks]


async def _examined(port: str, check: Callable[[Subject[PortT]], Awaitable[None]], subject: Subject[PortT]) -> Result:
    loop = asyncio.get_running_loop()
    began, error = loop.time(), ""
    deadline = asyncio.timeout(LIMIT_S)
    try:
        async with deadline:
            await check(subject)
    except ConformanceError as wrong:
        error = str(wrong)
    except TimeoutError as late:
        error = f"not over after {LIMIT_S:g} s" if deadline.expired() else _unexpected(late)
    except Exception as unexpected:  # noqa: BLE001 - whatever somebody's provider raises is a finding, not a crash
        error = _unexpected(unexpected)
    return Result(port, name_of(check), obligation_of(check), error, round(loop.time() - began, 3))


def _unexpected(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError) and str(error) else f"raised {error!r}"


def name_of(check: Callable[..., object]) -> str:
    return getattr(check, "__name__", repr(check))


def obligation_of(check: Callable[..., object]) -> str:
    """The check's docstring as one line."""
    return " ".join((inspect.getdoc(check) or "").split())


def report(results: list[Result]) -> str:
    """A line for each check, and under a failed one what is wrong and what it is good for."""
    lines = []
    for result in results:
        lines.append(f"{'ok  ' if result.passed else 'FAIL'} {result.port}.{result.check} ({result.seconds:.2f} s)")
        if not result.passed:
            lines.append(f"     {result.error}")
            lines += textwrap.wrap(result.obligation, 120, initial_indent="     ", subsequent_indent="     ")
    return "\n".join(lines)


# -- for the checks -----------------------------------------------------------------------------


def require(condition: bool, what: str) -> None:
    if not condition:
        raise ConformanceError(what)


class _Startable(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


StartableT = TypeVar("StartableT", bound=_Startable)


@asynccontextmanager
async def started(subject: Subject[StartableT]) -> AsyncIterator[StartableT]:
    """A provider from ``start`` to ``close``."""
    provider = subject.make()
    await provider.start()
    try:
        yield provider
    finally:
        await provider.close()


def check_error(error: ProviderError, what: str) -> None:
    """Logs, metrics and the degradation ladder go by an error's code."""
    require(bool(_CODE.fullmatch(error.code)), f"{what}: the error's code {error.code!r} does not fit {_CODE.pattern}")


def is_utf8(text: object) -> bool:
    """True for text without lone surrogates, which the journal and JSON cannot carry."""
    return isinstance(text, str) and text.encode("utf-8", "ignore").decode() == text


async def settled(awaitable: Awaitable[T], what: str) -> T | ProviderError:
    """The result, or the ``ProviderError`` that was raised. Anything else that is raised is a finding."""
    try:
        return await awaitable
    except ProviderError as error:
        check_error(error, what)
        return error
    except ConformanceError:
        raise
    except Exception as error:
        raise ConformanceError(f"{what}: raises {error!r}, which is no ProviderError") from error


async def soon(awaitable: Awaitable[T], what: str) -> T:
    """The result, which must come within ``SOON_S``. Awaited in this task, as the runtime does."""
    loop = asyncio.get_running_loop()
    began, deadline = loop.time(), asyncio.timeout(SOON_S)
    try:
        async with deadline:
            result = await awaitable
    except TimeoutError:
        if not deadline.expired():
            raise
        raise ConformanceError(f"{what}: not over after {SOON_S:g} s") from None
    # A step that blocks the loop, or takes no notice of being cancelled, cannot be timed out, only measured.
    took = loop.time() - began
    require(took <= 2 * SOON_S, f"{what}: took {took:.1f} s")
    return result


async def cancelled_soon(work: Coroutine[Any, Any, object], steps: int, what: str) -> None:
    """Cancels ``work`` after it ran for ``steps`` rounds of the loop; it must end at once."""
    task = await _after(work, steps)
    task.cancel()
    await _over(task, f"{what}: goes on for more than {SOON_S:g} s after it was cancelled")
    if not task.cancelled():
        error = task.exception()
        require(error is None or isinstance(error, ProviderError), f"{what}: raises {error!r} when it is cancelled")


async def ended_by_close(provider: _Startable, work: Coroutine[Any, Any, object], steps: int, what: str) -> None:
    """Closes the provider under ``work``, which has to come to an end of its own: a result or ``ProviderError``."""
    task = await _after(work, steps)
    await soon(provider.close(), f"{what}: close")
    await _over(task, f"{what}: still waits {SOON_S:g} s after the provider was closed")
    require(not task.cancelled(), f"{what}: close cancels the task that waits, which is the call's own")
    await settled(task, what)


async def _after(work: Coroutine[Any, Any, T], steps: int) -> asyncio.Task[T]:
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    return task


async def _over(task: asyncio.Task[Any], otherwise: str) -> None:
    """Waits ``SOON_S`` for the end of a task. Nothing is left running."""
    await asyncio.wait({task}, timeout=SOON_S)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=SOON_S)
        raise ConformanceError(otherwise)


async def closes_twice(provider: _Startable) -> None:
    """Calls ``close`` two times."""
    for _ in range(2):
        try:
            await soon(provider.close(), "close")
        except ConformanceError:
            raise
        except Exception as error:
            raise ConformanceError(f"closing twice raises {error!r}") from error


@asynccontextmanager
async def iterating(parts: AsyncGenerator[T, None]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """Closes the iterator at the end; a provider that cannot be closed fails the check instead of hanging it."""
    try:
        yield parts
    finally:
        await soon(parts.aclose(), "closing the iterator")


async def median_call_s(call: Callable[[], object], times: int) -> float:
    """The median of what a call takes, in seconds of real time: one that the machine delayed does not count."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0)
    return sorted(took)[times // 2]
