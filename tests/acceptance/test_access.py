"""A server in earnest, in a process of its own, over its real sockets: nothing without a credential, all with one."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from served import FAKE, Server, ended
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from antiphon.server.api_keys import hashed, new_key
from antiphon.server.tokens import new_secret

KEY, SECRET = new_key(), new_secret()


async def ask(server: Server, method: str, path: str, **headers: str) -> tuple[int, dict[str, Any], str]:
    """Status, JSON and ``Retry-After``."""

    def fetch() -> tuple[int, dict[str, Any], str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(json.loads(answer.read())), answer.headers.get("retry-after", "")

    return await asyncio.to_thread(fetch)


async def refused(server: Server, path: str, **how: Any) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"ws://127.0.0.1:{server.port}{path}", **how)
    status: int = refusal.value.response.status_code
    return status


def test_nothing_without_a_credential_and_everything_with_one(tmp_path: Path) -> None:
    server = Server(
        tmp_path,
        {**FAKE, "server": {"public_url": "https://voice.example.org"}},
        ANTIPHON_SERVER_API_KEYS=hashed(KEY),
        ANTIPHON_SERVER_TOKEN_SECRET=SECRET,
    )

    async def main() -> None:
        await server.start()
        closed = (("GET", "/sessions"), ("POST", "/sessions"), ("GET", "/metrics"), ("GET", "/sessions/one"))
        for method, path in closed:
            assert (await ask(server, method, path))[0] == 401, path
        assert (await ask(server, "GET", "/health"))[0] == 200
        assert await refused(server, "/orchestrate?session_id=one") == 401
        status, begun, _ = await ask(server, "POST", "/sessions", x_api_key=KEY)
        assert status == 201
        session, token = begun["session_id"], begun["token"]
        url = f"ws://127.0.0.1:{server.port}{begun['url']}"
        browser: Any = ["antiphon.v1", f"bearer.{token}"]
        async with connect(url, subprotocols=browser) as socket:
            assert socket.subprotocol == "antiphon.v1", "the token is not said back"
            connected = json.loads(await socket.recv())
            assert (connected["type"], connected["session_id"]) == ("connected", session)
            await socket.send(json.dumps({"type": "text", "text": "what are the fees"}))
            assert json.loads(await socket.recv())["type"] == "response"
        program = {"Authorization": f"Bearer {token}"}
        async with connect(url, additional_headers=program) as socket:
            assert json.loads(await socket.recv())["resumed"]
        assert await refused(server, "/orchestrate?session_id=other", additional_headers=program) == 403
        assert await refused(server, f"/orchestrate?session_id={session}&token={token}") == 400, "never in an address"
        own = {"authorization": f"Bearer {token}"}
        status, view, _ = await ask(server, "GET", f"/sessions/{session}", **own)
        assert status == 200
        assert "what are the fees" in [turn["question"] for turn in view["turns"]]
        assert (await ask(server, "POST", f"/sessions/{session}/replay", **own))[1]["identical"]
        assert (await ask(server, "GET", "/sessions", **own))[0] == 403
        _, listed, _ = await ask(server, "GET", "/sessions", authorization=f"Bearer {KEY}")
        assert [each["session_id"] for each in listed["sessions"]] == [session]

        statuses = [(await ask(server, "GET", "/sessions", x_api_key=f"wrong-{n}-CANARY")) for n in range(25)]
        assert {status for status, _, _ in statuses} == {401, 429}
        assert statuses[0][0] == 401
        assert all(int(wait) >= 1 for status, _, wait in statuses if status == 429)
        assert (await ask(server, "GET", "/health"))[0] == 200
        for secret in (KEY, SECRET, token, token.rpartition(".")[2], "CANARY"):
            assert secret not in server.log()
        assert "auth.credential" in server.log()

    with ended(server):
        asyncio.run(main())
