"""OpenAI's chat completions over the engine: anything that speaks that protocol can ask."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from itertools import takewhile
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from earthmind_lab.engine.base import Capabilities, Engine
from earthmind_lab.errors import ModelNotFound, PromptError
from earthmind_lab.exchange import (
    Done,
    Failed,
    Found,
    Options,
    Prompt,
    Queued,
    Reply,
    Token,
    Tuning,
    Turn,
    View,
)
from earthmind_lab.server import chat_form as form
from earthmind_lab.server.admission import DECODING_BYTES, PIXEL_BYTES, Place
from earthmind_lab.server.faults import ASKING, Failure, Refusal, json_response, responses
from earthmind_lab.server.flow import Flow
from earthmind_lab.server.guard import seat_of, token_of
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.pictures import file_of, pixels_of, run_lengths, size_of
from earthmind_lab.server.reading import JSONRoute
from earthmind_lab.server.serving import Gone, Serving, UnderWay

_STREAM = {
    "schema": {"type": "string"},
    "example": 'data: {"choices": [{"delta": {"content": "Yes"}}]}\n\ndata: [DONE]\n\n',
}
router = APIRouter(prefix="/v1", tags=["openai"])
asking = APIRouter(prefix="/v1", tags=["openai"], route_class=JSONRoute)


@router.get("/models", response_model=form.Models, responses=responses())
async def models(request: Request) -> Response:
    """The model that answers here, and each adapter on it as a model of its own."""
    engine = _serving(request).engine
    adapters = await asyncio.to_thread(_adapters, engine)
    listed = [_model(engine), *(_model(engine, adapter) for adapter in adapters.values())]
    return json_response({"object": "list", "data": listed})


@router.get("/models/{name}", response_model=form.Model, responses=responses(404, 422))
async def model(request: Request, name: str) -> Response:
    """One of them by its name."""
    engine = _serving(request).engine
    adapter = await asyncio.to_thread(_adapter, name, engine)
    return json_response(_model(engine, adapter))


@asking.post(
    "/chat/completions", response_model=form.Completion,
    responses={
        200: {"content": {"text/event-stream": _STREAM}, "description": "An answer, or a stream"},
        404: {"model": Failure, "description": "No such model"},
        **responses(*ASKING),
    },
)  # fmt: skip
async def complete(request: Request, asked: form.Ask) -> Response:
    """Ask a question, with pictures as data URLs in the first one."""
    serving = _serving(request)
    engine = serving.engine
    adapter = await asyncio.to_thread(_adapter, asked.model, engine)
    seat = seat_of(request.scope, asked.user or asked.safety_identifier)
    with serving.entering(token_of(request.scope), "chat") as place:
        place.sit(seat)
        # Decoding pictures takes a while, and others are waiting for their tokens.
        prompt = await asyncio.to_thread(_prompt, asked.messages, serving.limits, place)
        asked.messages.clear()  # they are as large as the request, and the answer takes a while
        engine.capabilities.check(prompt)
        options = _options(asked, adapter)
        under = await serving.ask(prompt, options, place, request.receive, "chat")
        del prompt
    about = {"id": f"chatcmpl-{under.id}", "created": int(time.time()), "model": asked.model}
    if asked.stream:
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        chunks = _chunks(under, about, engine.capabilities, usage=usage)
        return Flow(under, chunks, media_type="text/event-stream", headers={})
    try:
        reply = await under.reply()
    except Gone:
        return Response(status_code=499)  # nobody reads it
    extension = await asyncio.to_thread(_extension, reply, engine.capabilities)
    message = {"role": "assistant", "content": reply.text, "refusal": None, "earthmind": extension}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    body = {**about, "object": "chat.completion", "choices": [choice], "usage": _tokens(reply)}
    return json_response(body)


# --- from the request to the prompt ---------------------------------------------------------------


def _options(asked: form.Ask, adapter: Tuning | None) -> Options:
    most = asked.max_completion_tokens or asked.max_tokens or Options().max_new_tokens
    return Options(
        max_new_tokens=most,
        temperature=asked.temperature or 0.0,
        seed=asked.seed or 0,
        adapter=None if adapter is None else adapter.hash,
    )


def _prompt(messages: Sequence[form.Message], limits: Limits, place: Place) -> Prompt:
    """Instructions before the first question; earlier turns are history; the last one is asked.

    Raises:
        PromptError: Other orders, or pictures after the first question.
        EngineBusy: There is no room for the pictures now.
    """
    lead = [*takewhile(lambda each: isinstance(each, form.Instruction), messages)]
    said = messages[len(lead) :]
    questions = [each for each in said[::2] if isinstance(each, form.Question)]
    answers = [each for each in said[1::2] if isinstance(each, form.Earlier)]
    if len(questions) != len(answers) + 1 or len(questions) + len(answers) != len(said):
        raise PromptError(
            "The messages aren't questions and answers by turns, with a question at the end.",
            found=", ".join(each.role for each in messages)[:200],
            change="system first where there is one, then user, assistant, user, …, user",
        )
    texts = [_text(each.content) for each in questions]
    texts[0] = "\n\n".join(filter(None, [*(_text(each.content) for each in lead), texts[0]]))
    history = tuple(
        Turn(question=text, reply=(answer.earthmind and answer.earthmind.raw) or _text(
            answer.content))
        for text, answer in zip(texts, answers, strict=False)
    )  # fmt: skip
    if any(_pictures(each) for each in questions[1:]):
        raise PromptError(
            "A later question brings pictures of its own.",
            change="all pictures in the first question, or a conversation of their own",
        )
    views = _views(_pictures(questions[0]), limits, place)
    return Prompt(text=texts[-1], views=views, history=history)


def _views(parts: Sequence[form.ImagePart], limits: Limits, place: Place) -> tuple[View, ...]:
    """Pictures decoded, once there is room for all of them."""
    if len(parts) > limits.pictures:
        raise PromptError("There are too many pictures.", found=f"{len(parts)} pictures",
                          change=f"at most {limits.pictures}")  # fmt: skip
    files = [file_of(part.image_url.url) for part in parts]
    sizes = [size_of(file) for file in files]
    pixels = sum(width * height for width, height in sizes)
    if pixels > limits.pixels:
        raise PromptError(
            "The pictures are too large.",
            found=", ".join(f"{width} x {height} px" for width, height in sizes),
            change=f"at most {limits.pixels} pixels in all",
        )
    place.hold(PIXEL_BYTES * pixels)
    # One after the other.
    largest = max((width * height for width, height in sizes), default=0)
    with place.holding(DECODING_BYTES * largest):
        return tuple(
            View(image=pixels_of(file), **(part.earthmind or form.About()).model_dump())
            for part, file in zip(parts, files, strict=True)
        )


def _text(content: str | Sequence[Any]) -> str:
    """The words of a message."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, form.TextPart))


def _pictures(question: form.Question) -> list[form.ImagePart]:
    parts = question.content if isinstance(question.content, list) else []
    return [part for part in parts if isinstance(part, form.ImagePart)]


# --- from the reply to the response ---------------------------------------------------------------


async def _chunks(
    under: UnderWay, about: dict[str, Any], capabilities: Capabilities, *, usage: bool
) -> AsyncGenerator[bytes, None]:
    """Server-sent events of an answer; comments while it waits."""
    chunk = {**about, "object": "chat.completion.chunk", **({"usage": None} if usage else {})}

    def told(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**chunk, "choices": [choice]})

    async with aclosing(under.events()) as events:
        yield told({"role": "assistant", "content": ""})
        try:
            async for event in events:
                if isinstance(event, Token):
                    yield told({"content": event.text})
                elif isinstance(event, Queued):
                    yield f": {event.position} before\n\n".encode()
                elif isinstance(event, Done):
                    reply = event.reply
                    extension = await asyncio.to_thread(_extension, reply, capabilities)
                    yield told({"earthmind": extension}, _finish(reply))
                    if usage:
                        yield _event({**chunk, "choices": [], "usage": _tokens(reply)})
                elif isinstance(event, Failed):
                    yield _event(under.refusal(event).to_dict())
                elif event is None:
                    yield b": waiting\n\n"
        except Gone:
            return
        yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n".encode()


def _extension(reply: Reply, capabilities: Capabilities) -> dict[str, Any]:
    return {
        "notice": capabilities.notice,
        "ended": reply.ended,
        "raw": reply.raw or reply.text,
        "revision": capabilities.revision,
        "adapter": asdict(reply.adapter) if reply.adapter else None,
        "objects": [_object(found) for found in reply.objects],
        "usage": reply.usage.to_dict(),
    }


def _object(found: Found) -> dict[str, Any]:
    mask = None
    if found.mask_logits is not None:
        inside = found.mask_logits > 0
        mask = {"size": list(inside.shape), "counts": run_lengths(inside)}
    box = [float(value) for value in found.box] if found.box else None
    return {
        "label": found.label,
        # A model's numbers need not be finite, and JSON has no other.
        "score": float(found.score) if math.isfinite(found.score) else None,
        "box": box if box and all(map(math.isfinite, box)) else None,
        "view": found.view,
        "text_span": list(found.text_span) if found.text_span else None,
        "mask": mask,
    }


def _finish(reply: Reply) -> str:
    """Whether the model ended it itself."""
    return "stop" if reply.ended in ("stop", "empty") else "length"


def _tokens(reply: Reply) -> dict[str, int]:
    read, written = reply.usage.tokens_prefilled, reply.usage.tokens_new
    return {
        "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
    }  # fmt: skip


def _model(engine: Engine, adapter: Tuning | None = None) -> dict[str, Any]:
    about = asdict(engine.capabilities)
    told = {key: value for key, value in about.items() if key not in ("device", "stop")}
    return {
        "id": f"{engine.name}:{adapter.name}" if adapter else engine.name,
        "object": "model", "created": 0, "owned_by": "earthmind_lab",
        "earthmind": {**told, "adapter": asdict(adapter)} if adapter else told,
    }  # fmt: skip


def _adapters(engine: Engine) -> Mapping[str, Tuning]:
    """The adapters of an engine that has any; may ask other machines."""
    found: Mapping[str, Tuning] = getattr(engine, "adapters", {})
    return found


def _adapter(model: str, engine: Engine) -> Tuning | None:
    """The adapter of ``name:adapter``; None for the plain name.

    Raises:
        Refusal: 404: this model isn't here.
    """
    if model == engine.name:
        return None
    adapters = _adapters(engine) if model.startswith(f"{engine.name}:") else {}
    adapter = adapters.get(model.removeprefix(f"{engine.name}:"))
    if adapter is None:
        error = ModelNotFound(
            f"There is no model {model[:100]!r} here.",
            change=" or ".join(f"model={engine.name + end!r}" for end in (
                "", *(f":{name}" for name in adapters))),
        )  # fmt: skip
        raise Refusal(404, error, code="model_not_found", param="model")
    return adapter


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving
