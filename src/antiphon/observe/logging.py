"""Logging: the library speaks through the standard ``logging``; the server and the command render it here.

An application that embeds Antiphon leaves this module alone and keeps its own handlers. ``configure``
is for programs that are Antiphon: it sends the standard library's records, and those of parts that
use loguru, to one place, as lines for a person or as one JSON object a line. Every line names its call
(``call`` in ``extra``). Secrets are taken out of every line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TextIO

from loguru import logger

from antiphon.clip import clipped
from antiphon.errors import AntiphonError
from antiphon.observe.log_writer import LineWriter
from antiphon.secret import Secret

Format = Literal["console", "json"]


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_CLIPPED = frozenset({"text", "said", "transcript", "reply"})
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
_QUIET = ("aiohttp.access", "asyncio", "uvicorn.access", "uvicorn.error", "watchfiles")
_COLOURS = {"DEBUG": "2", "INFO": "36", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160)) if code != 10}

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(\bbearer\s+)[\w.~+/=-]{6,}",
        r"(\b(?:authorization|api[-_]?key|api-subscription-key|auth[-_]?token|access[-_]?token|password|secret)"
        r"[\"']?\s*[=:]\s*[\"']?)(?!bearer\b)[^\s\"',;&]+",
        r"(\bsk[-_])[\w-]{8,}",
        r"(\beyJ)[\w-]+\.[\w-]+\.[\w-]*",
        r"(://[^\s/:@]+:)[^\s/@]+(?=@)",
    )
)


class Redactor:
    """Takes known secrets, and what looks like one, out of a text."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        values = {secret.reveal() for secret in secrets if len(secret.reveal()) >= 6}
        self._known = re.compile(
            "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True)) or "(?!)"
        )

    def __call__(self, text: str) -> str:
        text = self._known.sub("***", text)
        for pattern in _PATTERNS:
            text = pattern.sub(r"\1***", text)
        return text


def secrets_in(settings: Any) -> list[Secret]:
    """Every ``Secret`` within a settings struct, for ``configure``."""
    if isinstance(settings, Secret):
        return [settings]
    if isinstance(settings, Mapping):
        return [found for value in settings.values() for found in secrets_in(value)]
    if isinstance(settings, list | tuple):
        return [found for value in settings for found in secrets_in(value)]
    fields = getattr(settings, "__struct_fields__", ())
    return [found for name in fields for found in secrets_in(getattr(settings, name))]


def configure(
    level: str = "INFO",
    format: Format = "console",
    *,
    secrets: Iterable[Secret] = (),
    stream: TextIO | None = None,
    worker: int = 0,
) -> LineWriter:
    """Renders all logging to ``stream`` (standard error) from ``level`` up. Call again to change it.

    ``worker``: the number of this process among several whose lines go to the same place; 0: it is the only one.

    Lines are written by a thread of their own, so that a reader who stops reading stops no call. Returns
    the writer: ``close`` writes what is waiting; the end of the process does so too.
    """
    out = sys.stderr if stream is None else stream
    writer = LineWriter(out)
    render = _Renderer(format, Redactor(secrets), colour=format == "console" and out.isatty(), worker=worker)
    logger.remove()
    # diagnose would print the values of local variables, and so secrets and what callers said.
    logger.add(
        lambda message: writer.write(render(message.record)),
        level=level,
        format=lambda record: "",
        diagnose=False,
        backtrace=False,
    )
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _ToLoguru)]:
        root.removeHandler(handler)
    root.addHandler(_ToLoguru())
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    return writer


class _ToLoguru(logging.Handler):
    """Hands the standard library's records over, with their name and extra fields."""

    def emit(self, record: logging.LogRecord) -> None:
        extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        level = record.levelname if record.levelname in _LEVELS else record.levelno
        source = record.name

        def name(target: Any) -> None:
            target["name"] = source

        logger.bind(**extra).patch(name).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


class _Renderer:
    def __init__(self, format: Format, redact: Redactor, *, colour: bool, worker: int = 0) -> None:
        self._line = self._json if format == "json" else self._console
        self._redact = redact
        self._colour = colour
        self._worker = worker

    def __call__(self, record: Mapping[str, Any]) -> str:
        return self._line(record)

    def _json(self, record: Mapping[str, Any]) -> str:
        call, fields = _fields(record)
        line: dict[str, Any] = {
            "time": record["time"].isoformat(timespec="milliseconds"),
            "level": record["level"].name,
            "logger": record["name"],
            "message": record["message"],
        }
        if self._worker:
            line["worker"] = self._worker
        if call:
            line["call"] = call
        line.update({key: value for key, value in fields.items() if key not in line})
        if record["exception"]:
            line["error"] = _error(record["exception"])
        return json.dumps(self._clean(line), ensure_ascii=False)

    def _clean(self, value: Any) -> Any:
        """Redacted before it is encoded, so that quotes and escapes cannot hide a secret or break the line."""
        if isinstance(value, dict):
            return {str(key): self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return value if value is None or isinstance(value, bool | int | float) else self._redact(str(value))

    def _console(self, record: Mapping[str, Any]) -> str:
        call, fields = _fields(record)
        level = record["level"].name
        shown = f"\x1b[{_COLOURS.get(level, '0')}m{level:<7}\x1b[0m" if self._colour else f"{level:<7}"
        text = " ".join([record["message"], *(f"{key}={value}" for key, value in fields.items())])
        if record["exception"]:
            text += "\n" + _error(record["exception"])["trace"]
        # Callers choose some of this text: what would move the cursor or begin a new entry is shown, not obeyed.
        text = self._redact(text).translate(_CONTROLS).replace("\n", "\n    ")
        who = f"{call.translate(_CONTROLS)} " if call else ""
        here = f"[{self._worker}] " if self._worker else ""
        return f"{record['time']:%H:%M:%S.%f}"[:12] + f" {shown} {here}{who}{record['name']}: {text}"


def _fields(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The call, and the other structured fields, what callers said clipped."""
    extra = dict(record["extra"])
    call = str(extra.pop("call", ""))
    return call, {key: clipped(str(value)) if key in _CLIPPED else value for key, value in extra.items()}


def _error(exception: Any) -> dict[str, str]:
    error = exception.value
    told = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, AntiphonError):
        told["code"] = error.code
    told["trace"] = "".join(traceback.format_exception(exception.type, error, exception.traceback)).rstrip()
    return told
