"""Our own route: prompts as raw arrays in, a stream of events out (`engine.wire`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from earthmind_lab.engine import wire
from earthmind_lab.engine.base import Engine
from earthmind_lab.errors import EarthMindError, EngineUnavailable
from earthmind_lab.exchange import Done, Failed, Modality, Object, View
from earthmind_lab.server.admission import Place
from earthmind_lab.server.faults import ASKING, json_response, responses
from earthmind_lab.server.flow import Flow
from earthmind_lab.server.guard import seat_of, token_of
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.reading import check_message
from earthmind_lab.server.serving import Gone, Serving, UnderWay

MAX_SIDE = 65_536
"""Longest side of a view that is asked about without its pixels."""
T = TypeVar("T")
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {wire.CONTENT_TYPE: _BYTES},
        "description": "A message of earthmind_lab.engine.wire, or a stream of them",
    }
}
_BODY = {"requestBody": {"required": True, "content": {wire.CONTENT_TYPE: _BYTES}}}

router = APIRouter(prefix="/v1/earthmind", tags=["earthmind"])


class Seen(BaseModel):
    """What the model really sees."""

    model_config = ConfigDict(extra="forbid")
    metres: float | None
    """Per pixel."""


@router.post(
    "/ask", response_class=Response, responses={**_ANSWERS, **responses(*ASKING)},
    openapi_extra=_BODY,
)  # fmt: skip
async def ask(request: Request) -> Response:
    """Ask: an `Ask` message in, a frame for each event out, empty frames as signs of life."""
    serving, body = _serving(request), await request.body()
    engine = serving.engine
    with serving.entering(token_of(request.scope), "binary") as place:
        asked = await _unpacked(body, wire.Ask, place, serving.limits)
        place.sit(seat_of(request.scope, asked.options.seat))
        under = await serving.ask(asked.prompt, asked.options, place, request.receive, "binary")
    return Flow(under, _frames(under), media_type=wire.CONTENT_TYPE, headers=_of(engine))


@router.get("/capabilities", response_class=Response, responses={**_ANSWERS, **responses()})
async def capabilities(request: Request) -> Response:
    """What the model is: a `Capabilities` message."""
    engine = _serving(request).engine
    return _message(engine, engine.capabilities)


@router.get("/stats", response_class=Response, responses={**_ANSWERS, **responses()})
async def stats(request: Request) -> Response:
    """What the engine is doing and keeps: a `Stats` message."""
    engine = _serving(request).engine
    return _message(engine, await asyncio.to_thread(engine.stats))


@router.get("/seen_gsd", response_model=Seen, responses=responses(422))
async def seen_gsd(
    request: Request,
    height: Annotated[int, Query(ge=1, le=MAX_SIDE)],
    width: Annotated[int, Query(ge=1, le=MAX_SIDE)],
    gsd: Annotated[float, Query(gt=0, le=1e6, allow_inf_nan=False)],
    modality: Modality = "optical",
) -> Response:
    """Metres per pixel that the model really sees of a view of this size."""
    engine = _serving(request).engine
    metres = await asyncio.to_thread(engine.seen_gsd, sized(height, width, gsd, modality))
    return json_response({"metres": metres}, headers=_of(engine))


@router.post(
    "/pictures", response_class=Response, responses={**_ANSWERS, **responses(400, 429)},
    openapi_extra=_BODY,
)  # fmt: skip
async def pictures(request: Request) -> Response:
    """What the vision encoder is given: a `Views` message in, a `Pictures` message out."""
    serving, body = _serving(request), await request.body()
    engine = serving.engine
    with serving.entering(token_of(request.scope), "pictures") as place, place:
        place.sit(seat_of(request.scope, None))
        asked = await _unpacked(body, wire.Views, place, serving.limits)
        serving.check_views(asked.views)
        made = getattr(engine, "pictures", None)
        if made is None:
            raise EngineUnavailable(f"The engine {engine.name!r} does not show its pictures.")
        found = await asyncio.to_thread(made, asked.views)
        return _message(engine, wire.Pictures(pictures=found))


async def _unpacked(body: bytes, kind: type[T], place: Place, limits: Limits) -> T:
    """A message whose arrays are raw: it takes its length, and while it is read twice that."""
    place.hold(len(body))
    with place.holding(len(body)):
        return await asyncio.to_thread(_read, body, kind, limits)


def _read(body: bytes, kind: type[T], limits: Limits) -> T:
    check_message(body, limits)
    return wire.unpack(body, kind)


def sized(height: int, width: int, gsd: float, modality: Modality) -> View:
    """A view of this size in px and m per px: one black pixel stands for all."""
    image = np.broadcast_to(np.zeros((1, 1, 1), np.uint8), (height, width, 3))
    return View(image=image, name="size", modality=modality, gsd=gsd)


async def _frames(under: UnderWay) -> AsyncGenerator[bytes, None]:
    """Every event of an ask as a frame; ends when it, or its client, has gone."""
    async with aclosing(under.events()) as events:
        try:
            async for event in events:
                if isinstance(event, Object | Done):
                    # Masks are megabytes: copied where that doesn't hold up the others.
                    data = await asyncio.to_thread(wire.pack, event)
                else:
                    data = b"" if event is None else wire.pack(event)
                yield wire.frame(data)
        except EarthMindError as error:  # what the engine said can't be sent
            yield wire.frame(wire.pack(Failed(ask="", error=error)))
        except Gone:
            return


def _message(engine: Engine, message: Any) -> Response:
    return Response(wire.pack(message), media_type=wire.CONTENT_TYPE, headers=_of(engine))


def _of(engine: Engine) -> dict[str, str]:
    """Says which weights answer, so that a client notices when they change."""
    return {wire.WEIGHTS: engine.capabilities.weight_hash}


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving
