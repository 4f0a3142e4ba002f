"""An aiohttp application on a free port of this machine, for the vendors' loopback endpoints."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """Yields ``127.0.0.1:<port>``."""
    # handler_cancellation: a closed connection is seen at once, as by a server that stops generating.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until_closed(request: web.Request, seconds: float = 30) -> None:
    """Sends nothing more; raises when the client closes, as a real server's generation ends then."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if request.transport is None or request.transport.is_closing():
            break
        await asyncio.sleep(0.005)
    raise ConnectionResetError
