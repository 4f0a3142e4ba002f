"""Services of ours on free ports of this machine, and their clients."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from antiphon.providers.registry import load
from antiphon.providers.service_wire import Stage
from antiphon.secret import Secret
from antiphon.server.run import Running, serve
from antiphon.server.services.app import make_service


@contextlib.asynccontextmanager
async def service(
    stage: Stage, provider: Any, *, key: str = "", capacity: int = 100, **options: Any
) -> AsyncIterator[Running]:
    """``provider`` served, from its start to its close."""
    await provider.start()
    made = make_service(stage, provider, key=Secret(key), capacity=capacity)
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    options = {"signals": False, "tune_gc": False, "drain_s": 2.0, "port": 0} | options
    task = asyncio.ensure_future(
        serve(made.app, made.routes, vitals=made.vitals, on_ready=started.set_result, **options)
    )
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        server = started.result()
        yield server
        server.stop()
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()
        await provider.close()


def client(stage: Stage, server: Running, **settings: Any) -> Any:
    return load(stage, "http", {"url": f"http://{server.host}:{server.port}", **settings})


@pytest.fixture
def kit() -> Any:
    """The names above, for test modules, which cannot import this one."""
    return sys.modules[__name__]
