"""Which socket gets a text, where texts come in the very moment in which a socket is opened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from antiphon.providers.http import Patience, Waits
from antiphon.providers.tts import elevenlabs_sockets
from antiphon.providers.tts.elevenlabs_sockets import Sockets
from antiphon.sim.clock import run

CONTEXTS = 2


class Silent:
    """A socket that takes everything and says nothing."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def send(self, message: dict[str, Any], patience: Patience | None = None) -> None:
        if message.get("flush"):
            self.texts.append(message["text"])
        await asyncio.sleep(0)

    async def receive(self, patience: Patience | None = None) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to close."""


class Endpoint:
    key = None

    def socket_url(self, manner: str) -> str:
        return "wss://voices.example"

    def first_message(self, id: str) -> dict[str, str]:
        return {"context_id": id}


def test_no_socket_gets_more_texts_than_the_vendor_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        opened: list[Silent] = []
        reachable = asyncio.Event()

        async def connect(*_: object, **__: object) -> Silent:
            await reachable.wait()
            opened.append(Silent())
            return opened[-1]

        monkeypatch.setattr(elevenlabs_sockets, "connect", connect)
        sockets = Sockets(None, Endpoint(), connect_s=1.0, contexts=CONTEXTS, most=10)  # type: ignore[arg-type]

        async def speak() -> None:
            patience = Patience(Waits(first_s=60.0, between_s=60.0, total_s=60.0), "elevenlabs", "tts")
            async for _ in sockets.speak("manner", "text", patience):  # type: ignore[arg-type]
                raise AssertionError("nothing is said")

        texts = [asyncio.create_task(speak())]
        await asyncio.sleep(0.1)
        reachable.set()
        texts += [asyncio.create_task(speak()) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert sum(len(each.texts) for each in opened) == 4
        assert max(len(each.texts) for each in opened) <= CONTEXTS
        await sockets.close()
        await asyncio.gather(*texts, return_exceptions=True)

    run(main())
