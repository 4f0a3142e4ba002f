"""The media route of ``/orchestrate``: what was asked for, who may and whether there is room, before a socket opens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from picows import WSListener

from antiphon.errors import MissingExtra
from antiphon.kernel.commands import AnyCommand
from antiphon.kernel.events import Entry
from antiphon.runtime.driver import Observe
from antiphon.runtime.host import Host
from antiphon.server.answers import Refusal, refuse
from antiphon.server.orchestrate_news import SessionNews
from antiphon.server.sockets import MediaRoute, Upgrade
from antiphon.transports.opus import OpusDecoder, OpusEncoder
from antiphon.transports.opus import require as require_opus
from antiphon.transports.orchestrate import Coder, OrchestrateLine
from antiphon.transports.orchestrate_messages import SUBPROTOCOL
from antiphon.transports.orchestrate_settings import Asked, read_query
from antiphon.transports.sweep import LineSweep
from antiphon.transports.twilio_settings import LineLimits

with suppress(MissingExtra):
    # Where it is installed: its library takes 0.3 s to load, which at the first socket would stop every other call.
    require_opus()

Allow = Callable[[Upgrade, str], None]
"""Raises ``NotAllowed`` if this upgrade may not open that session."""


def orchestrate_route(
    host: Host,
    *,
    limits: LineLimits,
    languages: Collection[str] = (),
    allow: Allow,
    sweep: LineSweep | None = None,
) -> MediaRoute:
    """Serve it at ``orchestrate_settings.PATH``, and let ``tell_lines(host)`` observe the host."""
    rounds = LineSweep() if sweep is None else sweep

    def route(upgrade: Upgrade) -> WSListener | Refusal:
        asked = read_query(upgrade.query, languages)
        allow(upgrade, asked.session)
        if not host.has_room(asked.session):
            code = "admission.draining" if host.draining else "admission.full"
            return refuse(503, code, "no room for another session, try again shortly", {"retry-after": "1"})
        try:
            coder = _coder(asked)
        except MissingExtra as missing:
            return refuse(400, "orchestrate.no_opus", f"this server takes no opus, use pcm16: {missing.args[0]}")
        chosen = SUBPROTOCOL if SUBPROTOCOL in upgrade.subprotocols else ""
        news = SessionNews(asked)
        return OrchestrateLine(host, asked, news, rounds, limits, coder=coder, languages=languages, subprotocol=chosen)

    return route


def _coder(asked: Asked) -> Coder | None:
    """Raises ``MissingExtra``."""
    return None if asked.codec == "pcm16" else _Opus(asked.rate)


class _Opus:
    """Fits ``Coder``."""

    def __init__(self, rate: int) -> None:
        encoder = OpusEncoder(rate)
        self.decode = OpusDecoder(rate).decode
        self.encode, self.clear = encoder.encode, encoder.clear


def tell_lines(host: Host) -> Observe:
    """An onlooker of the host that tells the sockets what happens in their sessions."""

    def tell(session: str, entry: Entry, commands: Sequence[AnyCommand]) -> None:
        call = host.get(session)
        if call is not None and call.driver is not None and isinstance(call.line, OrchestrateLine):
            call.line.tell(call.driver.session, entry, commands)

    return tell
