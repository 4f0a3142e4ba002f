"""What the route of /orchestrate hands to a socket's line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from picows import WSMsgType
from picows.picows import _make_test_ws_frame

sys.path.insert(0, str(Path(__file__).parents[1] / "transports"))

from orchestrate_fakes import RecordingWordSwitchboard, StubSocket
from twilio_fakes import StillSweep

from antiphon.server.orchestrate_media import orchestrate_route
from antiphon.server.sockets import Upgrade
from antiphon.transports.twilio_settings import LineLimits


class Host(RecordingWordSwitchboard):
    draining = False

    def has_room(self, call_id: str) -> bool:
        return True


def test_a_typed_line_is_held_to_the_languages_that_the_server_offers() -> None:
    host: Any = Host()
    route = orchestrate_route(
        host, limits=LineLimits(), languages=("en-IN", "hi-IN"), allow=lambda *_: None, sweep=StillSweep()
    )
    line: Any = route(Upgrade("/orchestrate", "session_id=s1", {}, None, "ws", ()))
    socket: Any = StubSocket()
    line.on_ws_connected(socket)
    for language in ("hi-IN", "te-IN"):
        message = json.dumps({"type": "text", "text": "namaste", "language": language}).encode()
        line.on_ws_frame(socket, _make_test_ws_frame(WSMsgType.TEXT, message, True, False))
    assert host.calls[0].log == [("text", "namaste", "hi-IN")]
    [error] = socket.sent
    assert (error["type"], error["code"]) == ("error", "session.bad_language")
    assert "en-IN, hi-IN" in error["message"]
