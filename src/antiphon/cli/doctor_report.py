"""What ``antiphon doctor`` found, and how it is shown."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from antiphon._version import __version__
from antiphon.errors import AntiphonError, MissingExtra
from antiphon.providers.endpoints import MissingKey

Status = Literal["ok", "note", "missing"]

MARKS = {"ok": ("ok", "32"), "note": ("--", "33"), "missing": ("!!", "31")}
AREA_WIDTH = 11


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``missing``: something needed is not there; ``note``: it works, or is not needed, but look.

    ``fix`` is the command or setting that mends it.
    """

    area: str
    status: Status
    text: str
    fix: str = ""


Check = Callable[[], Awaitable[list[Finding]]]


async def guarded(area: str, limit_s: float, check: Check) -> list[Finding]:
    """Runs a check; whatever stops it is its finding, with the command that mends it where the error knows one.

    A key that is missing is told of as such, under "keys".
    """
    try:
        async with asyncio.timeout(limit_s):
            return await check()
    except MissingKey as error:
        return [Finding(area=area, status="note", text=f"not tried: {error}")]
    except MissingExtra as error:
        return [Finding(area=area, status="missing", text=str(error), fix=error.command)]
    except AntiphonError as error:
        return [Finding(area=area, status="missing", text=str(error))]
    except TimeoutError:
        return [Finding(area=area, status="missing", text=f"no answer within {limit_s:g} s")]
    except Exception as error:  # noqa: BLE001 - a part may be broken in any way; saying so is the purpose
        return [Finding(area=area, status="missing", text=f"{type(error).__name__}: {error}")]


class Printer:
    """Prints findings as they come, or keeps them for one JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._colour = sys.stdout.isatty() and not as_json
        self._progress = sys.stderr.isatty() and not as_json
        self._began = time.monotonic()
        self.findings: list[Finding] = []

    def doing(self, what: str) -> None:
        """On a terminal, says what is under way; the line is overwritten."""
        if self._progress:
            print(f"\r\x1b[K   {what} ...", end="", file=sys.stderr, flush=True)

    def add(self, findings: list[Finding]) -> None:
        self.findings.extend(findings)
        if self._progress:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if not self._json:
            for each in findings:
                print(self._line(each))

    def end(self) -> int:
        """Prints the sum; exit status 1 if something needed is missing."""
        missing = [each for each in self.findings if each.status == "missing"]
        if self._json:
            print(json.dumps(self._as_json(not missing), ensure_ascii=False, indent=2))
        elif missing:
            commands = list(dict.fromkeys(each.fix for each in missing if each.fix))
            print(f"\n{len(missing)} needed {'part is' if len(missing) == 1 else 'parts are'} missing.", end="")
            print(" To mend:\n  " + "\n  ".join(commands) if commands else "")
        else:
            took = time.monotonic() - self._began
            print(f"\nEverything needed is there ({took:.1f} s). Next: antiphon serve")
        return 1 if missing else 0

    def _line(self, each: Finding) -> str:
        mark, colour = MARKS[each.status]
        shown = f"\x1b[{colour}m{mark}\x1b[0m" if self._colour else mark
        line = f"{shown}  {each.area:<{AREA_WIDTH}} {each.text}"
        return f"{line}\n{'':<{AREA_WIDTH + 5}}-> {each.fix}" if each.fix else line

    def _as_json(self, ok: bool) -> dict[str, Any]:
        return {
            "ok": ok,
            "version": __version__,
            "seconds": round(time.monotonic() - self._began, 2),
            "findings": [msgspec.to_builtins(each) for each in self.findings],
        }
