"""Our own clients against our own services, over real sockets, pass the kits of the ports they stand for."""

import asyncio
from typing import Any

import pytest

from antiphon.conformance import KITS, Sample, examine, report
from antiphon.conformance.voice import made_up_voice
from antiphon.providers.registry import load

SHORT = Sample(speech=made_up_voice(syllables=2))
SERVED = [
    ("stt", "fake", {"partial_ms": 200}),
    ("intent", "fake", {}),
    ("retrieval", "fake", {}),
    ("retrieval", "lexical", {}),
    ("tts", "fake", {}),
]


@pytest.mark.parametrize(("stage", "name", "settings"), SERVED, ids=str)
def test_a_provider_behind_http_conforms_as_it_does_here(kit: Any, stage: Any, name: str, settings: Any) -> None:
    async def main() -> None:
        async with kit.service(stage, load(stage, name, settings), key="k") as server:
            results = await examine(KITS[stage], lambda: kit.client(stage, server, api_key="k"), SHORT)
        print(report(results))
        assert results
        assert all(result.passed for result in results)

    asyncio.run(main())
