"""The documents in ``docs/api`` are valid, are those of the code, and what the services say is what they describe."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from antiphon.providers.registry import load
from antiphon.providers.service_wire import PLACES

API = Path(__file__).parents[3] / "docs" / "api"
HTTP = {"intent": "intent.openapi.json", "retrieval": "rag.openapi.json", "tts": "tts.openapi.json"}
EAR = "stt.asyncapi.yaml"


def document(name: str) -> Any:
    return yaml.safe_load((API / name).read_text(encoding="utf-8"))  # JSON is YAML


def check(told: Any, schema: dict[str, Any], whole: dict[str, Any]) -> None:
    """``schema`` may refer into ``whole``."""
    Draft202012Validator({**schema, "components": whole["components"]}).validate(told)


@pytest.mark.parametrize("name", HTTP.values())
def test_the_documents_are_openapi(name: str) -> None:
    validate(document(name))


def test_they_describe_the_paths_that_there_are() -> None:
    for stage, name in HTTP.items():
        assert list(document(name)["paths"]) == [PLACES[stage].path, "/health"]  # type: ignore[index]
    assert document(EAR)["channels"]["listen"]["address"] == PLACES["stt"].path


@pytest.mark.parametrize("stage", HTTP)
def test_answers_and_refusals_are_as_described(kit: Any, stage: Any) -> None:
    whole = document(HTTP[stage])
    path = PLACES[stage].path
    responses = whole["paths"][path]["post"]["responses"]

    async def main() -> None:
        async with kit.service(stage, load(stage, "fake")) as server, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{server.port}"
            headers = {"Accept": "application/x-ndjson"}
            for body in ({"text": "What are the fees?"}, {"text": "x" * 4001}, {}):
                async with session.post(f"{url}{path}", json=body, headers=headers) as answer:
                    text = await answer.read()
                    content = responses[str(answer.status)]["content"]
                    described = next(value for key, value in content.items() if key.startswith(answer.content_type))
                    for line in text.splitlines():
                        check(json.loads(line), described["schema"], whole)
                    if body:
                        request = whole["paths"][path]["post"]["requestBody"]["content"]["application/json"]
                        valid = Draft202012Validator({**request["schema"], "components": whole["components"]}).is_valid(
                            body
                        )
                        assert valid is (answer.status == 200)
            async with session.get(f"{url}/health") as answer:
                described = whole["paths"]["/health"]["get"]["responses"]["200"]["content"]["application/json"]
                check(await answer.json(), described["schema"], whole)

    asyncio.run(main())


def test_what_the_ear_says_is_as_described(kit: Any) -> None:
    whole = document(EAR)
    messages = whole["components"]["messages"]
    for name, channel in whole["channels"]["listen"]["messages"].items():
        assert channel["$ref"].rpartition("/")[2] == name in messages
    for operation in whole["operations"].values():
        assert all(each["$ref"].rpartition("/")[2] in messages for each in operation["messages"])
    told: list[Any] = []

    async def main() -> None:
        provider = load("stt", "fake", {"partial_ms": 100, "fail_every": 2})
        async with kit.service("stt", provider) as server, aiohttp.ClientSession() as session:
            socket = await session.ws_connect(f"http://127.0.0.1:{server.port}/listen?rate=8000")
            for number in (1, 2):
                await socket.send_bytes(bytes(3200))
                await socket.send_json({"type": "finish", "utterance": number})
                while not told or told[-1]["type"] == "partial":
                    told.append(await socket.receive_json(timeout=5))
                told.append({"type": "partial", "utterance": 1, "text": ""})
            await socket.close()

    asyncio.run(main())
    assert {each["type"] for each in told} == {"partial", "final", "error"}
    for each in told:
        check(each, messages[each["type"]]["payload"], whole)
