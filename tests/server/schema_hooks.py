"""What schemathesis has to know: a model that exists, messages by turns, our own content type,
pictures that open."""

from __future__ import annotations

import base64
import contextlib
import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from earthmind_lab.engine import wire
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.server.chat_form import Ask
from tests.server.scripted import view

MODEL = "scripted"
WHOLE = [
    wire.pack(wire.Ask(prompt=Prompt(text="Where?", views=(view(),)), options=Options())),
    wire.pack(wire.Views(views=(view(), view(modality="sar")))),
]


def picture() -> str:
    held = io.BytesIO()
    Image.fromarray(view().image).save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


@st.composite
def messages(draw):
    """Whole messages, cut and damaged ones, and anything."""
    data = bytearray(draw(st.sampled_from(WHOLE) | st.binary(max_size=200)))
    for _ in range(draw(st.integers(0, 2)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


schemathesis.openapi.media_type(wire.CONTENT_TYPE, messages())


@schemathesis.serializer(wire.CONTENT_TYPE)
def as_bytes(_ctx, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def all_are_messages(messages):
    """What leaves some out must not leave out what a test is meant to see refused."""
    with contextlib.suppress(ValidationError):
        return bool(Ask.model_validate({"model": MODEL, "messages": messages}))
    return False


def by_turns(messages):
    """Instructions, then questions and answers in turn, pictures in the first question only."""
    by_role = {}
    for message in messages:
        by_role.setdefault(message["role"], []).append(message)
    questions, answers = by_role.get("user", []), by_role.get("assistant", [])
    if not questions:
        return messages
    turns = [part for both in zip(questions[:-1], answers, strict=False) for part in both]
    for question in questions[1:]:
        question["content"] = "And now?"
    return [*by_role.get("system", []), *by_role.get("developer", []), *turns, questions[-1]]


@schemathesis.hook
def map_body(_context, body):
    """Mostly a model that is there, and a picture that is one: what comes after is tried, too.

    Only valid values are exchanged: what is meant to be refused stays as it is.
    """
    if isinstance(body, dict) and len(str(body)) % 8:
        model = body.get("model")
        if isinstance(model, str) and len(model) <= 200:
            body["model"] = MODEL
        messages = body.get("messages")
        if all_are_messages(messages):
            body["messages"] = by_turns(messages)
        for message in messages if isinstance(messages, list) else ():
            parts = message.get("content") if isinstance(message, dict) else ()
            for part in parts if isinstance(parts, list) else ():
                given = part.get("image_url") if isinstance(part, dict) else None
                if isinstance(given, dict) and isinstance(given.get("url"), str):
                    given["url"] = picture()
    return body
