"""The HTTP side of the port: bounds, malformed requests, and everything beside the media sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Form, Request, WebSocket
from fastapi.responses import StreamingResponse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from antiphon.server.connection import HttpLimits


def answers(data: bytes) -> list[tuple[int, dict[str, str], Any]]:
    """Status, headers and JSON body of each response; every body must be JSON."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        size = int(headers["content-length"])
        found.append((int(lines[0].split()[1]), headers, json.loads(data[:size])))
        data = data[size:]
    return found


def extra_router() -> APIRouter:
    router = APIRouter()

    @router.post("/form")
    async def form(name: Annotated[str, Form()]) -> dict[str, str]:
        return {"name": name}

    @router.get("/client")
    async def client(request: Request) -> dict[str, Any]:
        return {"client": request.client.host, "scheme": request.url.scheme, "path": request.scope["path"]}

    @router.get("/broken")
    async def broken() -> None:
        raise KeyError("secret detail")

    @router.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(0.3)

    @router.get("/endless")
    async def endless() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"begun"
            await asyncio.Event().wait()

        return StreamingResponse(pieces(), headers={"content-length": "100"})

    @router.websocket("/live")
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"{websocket.scope['path']}: {text}")

    return router


def app(kit: Any) -> Any:
    return kit.make_app(routers=(extra_router(),))


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


CLOSE = "Connection: close"
FORM = "Content-Type: application/x-www-form-urlencoded"


def test_an_application_websocket_on_the_same_port(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        async with (
            kit.running({"/media": kit.Echoes()}, app(kit)) as server,
            connect(server.url("/live", "ws")) as live,
            connect(server.url("/media", "ws")) as media,
        ):
            await live.send("a")
            await media.send("b")
            assert (await live.recv(), await media.recv()) == ("/live: a", "b")
            await live.send("x" * 65_537)
            with pytest.raises(ConnectionClosed) as closed:
                await live.recv()
            assert closed.value.rcvd.code == 1009

    run_on(main())


@pytest.mark.parametrize("path", ["/media/", "/nowhere", "/health", "/"])
def test_a_websocket_where_there_is_none_is_answered_as_any_unknown_path(kit: Any, run_on: Any, path: str) -> None:
    async def main() -> None:
        async with kit.running({"/media": kit.Echoes()}, app(kit)) as server:
            answer = await kit.raw(server, kit.upgrade_request(path))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 ")
            assert b"content-type: application/json" in head.lower()
            error = json.loads(body)["error"]
            assert error["code"] == "http.not_found"
            assert "slash" in error["message"]

    run_on(main())


def test_keep_alive_and_then_an_upgrade_on_one_connection(kit: Any, run_on: Any) -> None:
    async def main() -> None:
        async with kit.running({"/media": kit.Echoes()}) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            for _ in range(2):
                writer.write(get("/ready"))
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                assert head.startswith(b"HTTP/1.1 200 ")
                assert await reader.readexactly(14) == b'{"ready":true}'
            writer.write(kit.upgrade_request())
            assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            writer.write(b"\x81\x82\x00\x00\x00\x00hi")
            assert await asyncio.wait_for(reader.readexactly(4), 5) == b"\x81\x02hi"
            writer.close()

    run_on(main())


@pytest.mark.parametrize(
    ("change", "status", "header"),
    [
        ({"drop": "Sec-WebSocket-Key"}, 400, None),
        ({"Sec_WebSocket_Key": "short"}, 400, None),
        ({"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAAA="}, 400, None),
        ({"Sec_WebSocket_Key": "\xe4AAAAAAAAAAAAAAAAAAAAA=="}, 400, None),
        ({"Sec_WebSocket_Version": "8"}, 426, ("sec-websocket-version", "13")),
        ({"drop": "Sec-WebSocket-Version"}, 426, ("upgrade", "websocket")),
        ({"version": "HTTP/1.0"}, 400, None),
        ({"Content_Length": "5"}, 400, None),
        ({"drop": "Upgrade"}, 426, ("upgrade", "websocket")),
        ({"Upgrade": "h2c"}, 426, None),
        ({"X_Large": "x" * 17_000}, 431, None),
        ({"X_Large": "x" * 1_000_000}, 431, None),
    ],
)
@pytest.mark.parametrize("path", ["/media", "/live"])
def test_malformed_upgrades(kit: Any, path: str, change: dict[str, str], status: int, header: Any) -> None:
    if path == "/live" and (change.get("drop") == "Upgrade" or change.get("Upgrade")):
        status, header = 404, None  # a plain request for a path that has only a WebSocket
    headers = {"Connection": "close"} if status == 404 or change.get("drop") == "Upgrade" else {}
    if change.get("Upgrade"):
        headers["Connection"] = "Upgrade, close"
    request = kit.upgrade_request(path, **({**headers, **change}))
    route = kit.Echoes()

    async def main() -> bytes:
        async with kit.running({"/media": route}, app(kit)) as server:
            return await kit.raw(server, request + (b"12345" if "Content_Length" in change else b""))

    ((seen, headers, body),) = answers(asyncio.run(main()))
    assert seen == status
    assert set(body["error"]) == {"code", "message"}
    if header:
        assert headers[header[0]] == header[1]
    assert route.all == []


def test_a_post_that_asks_for_an_upgrade(kit: Any) -> None:
    request = kit.upgrade_request().replace(b"GET", b"POST", 1)

    async def main() -> bytes:
        async with kit.running({"/media": kit.Echoes()}) as server:
            return await kit.raw(server, request)

    ((status, headers, _),) = answers(asyncio.run(main()))
    assert (status, headers["allow"]) == (405, "GET")


def test_data_before_the_handshake_is_answered(kit: Any) -> None:
    """Taken as a part of the socket it would be a way to smuggle; dropped it would corrupt the stream."""

    async def main() -> bytes:
        async with kit.running({"/media": kit.Echoes()}) as server:
            return await kit.raw(server, kit.upgrade_request() + b"\x81\x82\x00\x00\x00\x00hi")

    ((status, _, body),) = answers(asyncio.run(main()))
    assert (status, body["error"]["code"]) == (400, "http.bad_upgrade")


def test_requests_that_never_arrive_are_timed_out(kit: Any) -> None:
    limits = HttpLimits(request_timeout_s=0.2)
    cases = {
        b"": 408,
        b"GET /media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n": 408,
        get("/form", FORM, "Content-Length: 100", method="POST") + b"name=": 408,
        get("/ready") + b"GET /ready HTT": 200,
    }

    async def main() -> list[bytes]:
        async with kit.running({"/media": kit.Echoes()}, app(kit), http_limits=limits) as server:
            return await asyncio.gather(*(kit.raw(server, data) for data in cases))

    seen = [answers(data) for data in asyncio.run(main())]
    assert [got[0][0] for got in seen] == list(cases.values())
    assert seen[-1][1][0] == 408
    assert seen[1][0][2]["error"]["code"] == "http.request_timeout"


def test_a_head_that_only_grows(kit: Any) -> None:
    async def main() -> None:
        async with kit.running({}) as server:
            begun = time.monotonic()
            ((status, _, _),) = answers(
                await kit.raw(server, b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 20_000)
            )
            assert status == 431
            assert time.monotonic() - begun < 0.9, "the answer's end is seen at once, not when lingering is over"

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/media", "/live"])
def test_an_upgrade_while_the_answer_before_is_due(kit: Any, path: str) -> None:
    async def main() -> bytes:
        async with kit.running({"/media": kit.Echoes()}, app(kit)) as server:
            with contextlib.suppress(ConnectionError):
                return await kit.raw(server, get("/slow") + kit.upgrade_request(path))
            return b""

    assert asyncio.run(main()) == b""


def test_garbage_while_an_answer_is_being_sent(kit: Any) -> None:
    async def main() -> None:
        async with kit.running({}, app(kit)) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(get("/endless"))
            head = await asyncio.wait_for(reader.readuntil(b"begun"), 5)
            assert head.startswith(b"HTTP/1.1 200 ")
            writer.write(b"this is not HTTP\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b"", "no second answer inside the first"
            writer.close()

    asyncio.run(main())


def test_an_open_media_socket_is_not_timed_out_as_a_request(kit: Any) -> None:
    async def main() -> None:
        limits = HttpLimits(request_timeout_s=0.1)
        async with (
            kit.running({"/media": kit.Echoes()}, http_limits=limits) as server,
            connect(server.url("/media", "ws")) as client,
        ):
            await asyncio.sleep(0.3)
            await client.send("on")
            assert await client.recv() == "on"

    asyncio.run(main())


@pytest.mark.parametrize("told", [True, False])
def test_a_body_over_the_limit(kit: Any, told: bool) -> None:
    body = b"name=" + b"x" * 3000
    if told:  # refused on its word, before any of it came
        request = get("/form", f"Content-Length: {len(body)}", method="POST")
    else:
        request = get("/form", "Transfer-Encoding: chunked", method="POST")
        request += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def main() -> bytes:
        async with kit.running({}, app(kit), http_limits=HttpLimits(max_body_bytes=2000)) as server:
            return await kit.raw(server, request)

    ((status, _, answer),) = answers(asyncio.run(main()))
    assert (status, answer["error"]["code"]) == (413, "http.too_large")


def test_connections_over_the_limit_are_closed_unheard(kit: Any) -> None:
    async def main() -> None:
        async with kit.running({"/media": kit.Echoes()}, http_limits=HttpLimits(max_connections=1)) as server:
            async with connect(server.url("/media", "ws")):
                seen = b""
                with contextlib.suppress(ConnectionError):
                    seen = await kit.raw(server, get("/ready"))
                assert seen == b""
            assert answers(await kit.raw(server, get("/ready", CLOSE)))[0][0] == 200

    asyncio.run(main())


def test_errors_are_json(kit: Any) -> None:
    requests = [
        (get("/nowhere", CLOSE), 404, "http.not_found"),
        (get("/health", CLOSE, method="DELETE"), 405, "http.method_not_allowed"),
        (get("/form", CLOSE, "Content-Length: 0", method="POST"), 422, "http.invalid"),
        (get("/broken", CLOSE), 500, "internal"),
        (b"this is not HTTP\r\n\r\n", 400, "http.bad_request"),
        (get("/media", CLOSE), 426, "http.upgrade_required"),
        (get("/docs", CLOSE), 404, "http.not_found"),
    ]

    async def main() -> list[bytes]:
        async with kit.running({"/media": kit.Echoes()}, app(kit)) as server:
            return [await kit.raw(server, request) for request, _, _ in requests]

    for data, (_, status, code) in zip(asyncio.run(main()), requests, strict=True):
        ((seen, headers, body),) = answers(data)
        assert (seen, body["error"]["code"], headers["content-type"]) == (status, code, "application/json")
        assert "secret detail" not in str(body)
        assert "server" not in headers


def test_proxy_headers_count_from_trusted_proxies_only(kit: Any) -> None:
    request = get("/client", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", CLOSE)

    async def main(trusted: str) -> bytes:
        async with kit.running({}, app(kit), trusted_proxies=trusted, root_path="/api") as server:
            return await kit.raw(server, request)

    assert answers(asyncio.run(main("127.0.0.0/8")))[0][2] == {
        "client": "203.0.113.9",
        "scheme": "https",
        "path": "/api/client",
    }
    assert answers(asyncio.run(main("10.0.0.1")))[0][2]["client"] == "127.0.0.1"
