"""The media route of Twilio's streams: who may open one is decided before the socket is accepted."""

from __future__ import annotations

import logging

from picows import WSListener

from antiphon.errors import NotAllowed
from antiphon.runtime.ports import Switchboard
from antiphon.server.answers import Refusal, refuse
from antiphon.server.sockets import MediaRoute, Upgrade
from antiphon.transports.twilio_auth import check_stream
from antiphon.transports.twilio_exchange import Exchange

log = logging.getLogger("antiphon.server.twilio_media")


def media_route(switchboard: Switchboard, exchange: Exchange) -> MediaRoute:
    """Serve it at ``exchange.settings.media_path``. An upgrade that is not proven is answered 403."""

    def route(upgrade: Upgrade) -> WSListener | Refusal:
        client = upgrade.client[0] if upgrade.client else ""
        try:
            check_stream(exchange.settings, client, upgrade.headers)
        except NotAllowed as refused:
            log.warning("stream from %s refused: %s", client or "-", refused.code)
            return refuse(403, refused.code, str(refused.args[0]))
        return exchange.line(switchboard)

    return route
