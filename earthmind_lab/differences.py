"""What differs between a record and its replay, from the pictures on: a sentence for each link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from earthmind_lab.conversation import Conversation
from earthmind_lab.record import Record
from earthmind_lab.recording import versions

if TYPE_CHECKING:
    from earthmind_lab.engine.base import Engine


def view_differences(record: Record, talk: Conversation) -> list[str]:
    """The pictures, by name and hash."""
    then = [(view["name"], view["hash"]) for view in record.prompt.get("views", ())]
    now = [(view.name, view.hash) for view in talk.views]
    if [name for name, _ in then] != [name for name, _ in now]:
        return [
            f"views: {', '.join(n for n, _ in now)} instead of {', '.join(n for n, _ in then)}."
        ]
    pairs = zip(then, now, strict=True)
    return [f"views: the picture {name} differs." for (name, old), (_, new) in pairs if old != new]


def model_differences(record: Record, engine: Engine) -> Iterator[str]:
    """The weights, the number format and the device."""
    about = engine.capabilities
    if about.weight_hash != record.model.get("weight_hash"):
        yield (
            f"model: the weights differ: {about.name} {about.revision} instead of "
            f"{record.model.get('name')} {record.model.get('revision')}."
        )
    for key in ("dtype", "device"):
        then, now = str(record.model.get(key)), str(getattr(about, key))
        if then != now:
            yield f"model: {key} {now} instead of {then}: expect numeric drift."


def reply_differences(record: Record, now: Record) -> Iterator[str]:
    """Words, tokens and masks."""
    if now.text != record.text:
        yield f"tokens: the model now says {now.text!r} instead of {record.text!r}."
    elif now.model.get("token_hash") != record.model.get("token_hash"):
        yield "tokens: other tokens give the same text."
    old, new = record.model.get("mask_hashes", []), now.model.get("mask_hashes", [])
    if len(old) != len(new):
        yield f"masks: {len(new)} instead of {len(old)}."
        return
    pixels = zip(record.model["mask_pixels"], now.model["mask_pixels"], strict=True)
    for number, (before, after) in enumerate(pixels, start=1):
        if old[number - 1] != new[number - 1]:
            yield f"masks: mask {number} differs: {after} pixels instead of {before}."


def version_differences(record: Record) -> Iterator[str]:
    """Libraries that decide pixels and numbers."""
    now = versions()
    for name, then in record.versions.items():
        if now.get(name) != then:
            yield f"versions: {name} {now.get(name, 'is missing')} instead of {then}."
