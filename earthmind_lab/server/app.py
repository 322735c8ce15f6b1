"""The app: guard, routes and what says how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from earthmind_lab import __version__
from earthmind_lab.engine.base import Engine
from earthmind_lab.server import binary, chat
from earthmind_lab.server.chat_form import UNSUPPORTED
from earthmind_lab.server.faults import install, json_response, responses
from earthmind_lab.server.guard import Guard
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.metrics import CONTENT_TYPE
from earthmind_lab.server.names import own_names
from earthmind_lab.server.serving import Serving

ABOUT = """One resident model for several notebooks, scripts and faces.

`/v1/chat/completions` speaks as OpenAI's API does; what it adds stands under `earthmind`.
`/v1/earthmind/…` takes prompts and gives replies as raw arrays: `earthmind_lab.engine.wire`.
Nothing that a request names is ever opened or fetched.
"""

router, guarded = APIRouter(tags=["server"]), APIRouter(tags=["server"])


class Health(BaseModel):
    """Whether the server answers questions."""

    model_config = ConfigDict(extra="forbid")
    status: Literal["loading", "ready", "closing"]
    replicas: int | None = None
    """Of the model that take questions; left out where there is but the one."""


def create_app(
    engine: Engine | None,
    *,
    token: str | None,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    limits: Limits | None = None,
) -> FastAPI:
    """The server's app over one engine.

    Args:
        engine: Who answers; None = it comes later, by ``app.state.serving.ready(engine)``.
        token: What every request but ``/health`` must bring; None = nothing.
        host: Where the app is served: other names of this machine are refused.
        names: Further ones under which it may be asked: of a proxy with TLS before it.
        limits: What requests and seats may take.

    Raises:
        EarthMindError: A name is none.
    """
    serving = Serving(engine, limits or Limits())
    app = FastAPI(
        title="earthmind_lab", version=__version__, description=ABOUT, docs_url=None,
        redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.serving = serving
    app.include_router(router)
    for each in (guarded, chat.router, chat.asking, binary.router):
        # The guard has looked already; this only says so in the description.
        app.include_router(each, dependencies=[Depends(HTTPBearer(auto_error=False))])
    install(app, UNSUPPORTED)
    app.add_middleware(Guard, token=token, names=own_names(host, names), serving=serving)
    return app


@router.get(
    "/health", response_model=Health,
    responses={**responses(), 503: {"model": Health, "description": "Not ready"}},
)  # fmt: skip
async def health(request: Request) -> Response:
    """Whether questions are answered; needs no token."""
    serving = request.app.state.serving
    state, replicas = serving.state, serving.replicas
    if replicas == 0 and state == "ready":
        state = "loading"  # all have died, and come again
    health = {"status": state} if replicas is None else {"status": state, "replicas": replicas}
    return json_response(health, 200 if state == "ready" else 503)


@guarded.get(
    "/metrics", response_class=Response,
    responses={200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}, **responses()},
)  # fmt: skip
async def metrics(request: Request) -> Response:
    """What Prometheus reads."""
    # The engine may be elsewhere, and take a while to say how it is.
    text = await asyncio.to_thread(request.app.state.serving.metrics.text)
    return Response(text, media_type=CONTENT_TYPE)
