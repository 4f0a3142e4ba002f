"""picows' log lines, weighed anew: what a peer did wrong is no error of ours and must not flood the log.

One of these lines is more than a line. When picows' parser refuses what a peer sent, it says so in the log and then
sends a close frame with a text of its own. The log is the only place where that can be heard in between, so it is
told on from here, and a close frame with our code is sent first; picows sends no second one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from picows import WSCloseCode

log = logging.getLogger("antiphon.server.picows_log")


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

_PARSER_ERROR = "WS parser error"


class PicowsLog(_Adapter):
    """One connection's. Not a ``logging.Logger``, of which picows would make one more for every connection.

    ``on_parser_error`` is called with the WebSocket close code that picows is about to send.
    """

    def __init__(self, on_parser_error: Callable[[WSCloseCode], None]) -> None:
        super().__init__(log, None)
        self._on_parser_error = on_parser_error

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        return level >= logging.ERROR

    def log(self, level: int, msg: object, *args: object, exc_info: Any = None, **kwargs: Any) -> None:
        if exc_info:  # only an exception of a listener comes with one
            log.exception("media socket: %s", str(msg) % args if args else msg)

    def error(self, msg: object, *args: Any, exc_info: Any = None, **kwargs: Any) -> None:
        log.debug("media socket: %s", str(msg) % args if args else msg)
        if str(msg).startswith(_PARSER_ERROR):
            self._on_parser_error(args[0][0])
