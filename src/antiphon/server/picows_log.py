"""picows' log lines, weighed anew: what a peer did wrong is no error of ours and must not flood the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

log = logging.getLogger("antiphon.server.picows_log")


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class PicowsLog(_Adapter):
    """Not a ``logging.Logger``, of which picows would make one more for every connection."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        return level >= logging.ERROR

    def log(self, level: int, msg: object, *args: object, exc_info: Any = None, **kwargs: Any) -> None:
        if exc_info:  # only an exception of a listener comes with one
            log.exception("media socket: %s", str(msg) % args if args else msg)

    def error(self, msg: object, *args: object, exc_info: Any = None, **kwargs: Any) -> None:
        log.debug("media socket: %s", str(msg) % args if args else msg)


_EXTRA: Mapping[str, object] = {}
PICOWS_LOG = PicowsLog(logging.getLogger("antiphon.server"), _EXTRA)
