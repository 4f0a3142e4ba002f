"""Where a server listens: the address, whether it may, and the sockets. It loads nothing of the web server."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from typing import Final

from antiphon.errors import ConfigError

BACKLOG: Final = 2048


async def bind(host: str, port: int, *, open_allowed: bool, sockets: int = 0) -> list[socket.socket]:
    """One listening socket; or with ``sockets`` so many at one address, among which the kernel deals connections out.

    Port 0 takes a free one, the same for all. Raises ``ConfigError``: ``server.open_bind`` (an address others can reach
    that is not ``open_allowed``; X35) and ``server.bind`` (it cannot be listened on).
    """
    bound: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        if not open_allowed and not ipaddress.ip_address(address[0]).is_loopback:
            raise ConfigError(
                f"{host or 'every address'} can be reached from other machines and nothing authenticates them: "
                "set API keys (ANTIPHON_SERVER_API_KEYS; `antiphon keys new` makes one), or for phone calls alone "
                "Twilio's auth token and server.public_url; or listen on 127.0.0.1; or allow it with server.allow_open",
                code="server.open_bind",
            )
        for _ in range(sockets or 1):
            where = (address[0], bound[0].getsockname()[1] if bound else address[1])
            bound.append(socket.create_server(where, family=family, backlog=BACKLOG, reuse_port=bool(sockets)))
    except OSError as error:
        for each in bound:
            each.close()
        reason = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own text names the address again
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}", code="server.bind") from None
    return bound
