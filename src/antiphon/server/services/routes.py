"""The services that answer one request with one answer: ``POST /classify`` and ``POST /retrieve``; and what the
requests of all of them have in common.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.types import Receive

from antiphon.errors import UNUSABLE, AntiphonError, PeerError
from antiphon.providers.service_wire import (
    MAX_INTENT,
    PLACES,
    ClassifyAnswer,
    ClassifyRequest,
    RetrieveAnswer,
    RetrieveRequest,
    found_of,
    messages_of,
)
from antiphon.runtime.ports import Classifier, Retriever
from antiphon.server.answers import Refusal
from antiphon.server.services.door import Door, answered

GONE = 499
"""Nobody reads this status: whoever asked has left."""

T = TypeVar("T")


def classifying(classifier: Classifier, door: Door) -> APIRouter:
    router = APIRouter()

    @router.post(PLACES["intent"].path)
    async def classify(request: Request) -> Response:
        try:
            with door.inside(request.headers):
                asked = await read(request, ClassifyRequest)
                work = classifier.classify(asked.text, language=asked.language, history=messages_of(asked.history))
                found = await while_wanted(request.receive, work)
        except AntiphonError as error:
            return as_response(answered(error))
        if found is None:
            return Response(status_code=GONE)
        return _json(ClassifyAnswer(found.name[:MAX_INTENT], max(0.0, min(1.0, found.confidence))))

    return router


def retrieving(retriever: Retriever, door: Door) -> APIRouter:
    router = APIRouter()

    @router.post(PLACES["retrieval"].path)
    async def retrieve(request: Request) -> Response:
        try:
            with door.inside(request.headers):
                asked = await read(request, RetrieveRequest)
                work = retriever.retrieve(asked.text, language=asked.language, history=messages_of(asked.history))
                found = await while_wanted(request.receive, work)
        except AntiphonError as error:
            return as_response(answered(error))
        if found is None:
            return Response(status_code=GONE)
        return _json(RetrieveAnswer(found_of(found, asked.limit)))

    return router


async def while_wanted(receive: Receive, work: Awaitable[T]) -> T | None:
    """What comes of ``work``; None once the client has gone, for whom it is then no longer done."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    return None if working.cancelled() else working.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read(request: Request, kind: type[T]) -> T:
    """The request's body. Raises ``PeerError`` (``service.bad_request``), which names the field and not its value."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except UNUSABLE as error:
        raise PeerError(f"the request cannot be used: {error}", code="service.bad_request") from None


def as_response(refusal: Refusal) -> Response:
    return Response(refusal.body, refusal.status, refusal.headers, media_type="application/json")


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
