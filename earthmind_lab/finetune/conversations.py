"""Conversations about pictures: LLaVA's JSON, ShareGPT's, and lists of messages.

    {"id": "7", "image": "a.png", "conversations": [{"from": "human", "value": "<image>What?"},
                                                    {"from": "gpt", "value": "A lake."}]}
    {"images": ["a.png"], "messages": [{"role": "user", "content": "What?"},
                                       {"role": "assistant", "content": "A lake."}]}

A conversation of several turns becomes one example per turn, with the earlier turns as history.
Beyond what is published, an entry may say ``masks`` (one outline per [SEG] of its answers),
``regions`` (outlines that its questions speak of), ``footprint`` (GeoJSON, or W, S, E, N),
``license`` and ``attribution``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Prompt, Region, Turn, View
from earthmind_lab.finetune.examples import ExampleInfo
from earthmind_lab.finetune.footprints import footprint_of
from earthmind_lab.finetune.questions import SEG, unmarked, with_regions
from earthmind_lab.finetune.reading import need, words
from earthmind_lab.finetune.shapes import mask_of
from earthmind_lab.finetune.source import Opened, Row, broken, hashed, wrong
from earthmind_lab.finetune.views import Views

_ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt", "model": "gpt"}


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What holds for a whole file where its entries say nothing."""

    licence: str = ""
    attribution: str = ""


@dataclass(frozen=True, kw_only=True)
class _Talk:
    """One entry, read but not opened."""

    turns: tuple[Turn, ...]
    names: tuple[str, ...]
    """Of its pictures."""
    video: bool
    entry: Mapping[str, Any]
    where: str


def conversation_rows(entry: Any, where: str, name: str, views: Views, rights: Rights) -> list[Row]:
    """The turns of one entry; a row that raises where the entry can't be read.

    Args:
        entry: What the file holds.
        where: For people.
        name: Id where the entry has none.
        views: Where its pictures are.
        rights: Of the file.
    """
    try:
        talk = _talk(entry, where)
        place = footprint_of(entry.get("footprint"), where)
    except EarthMindError as error:
        return [broken(where, name, error)]
    own = entry.get("id", entry.get("question_id"))
    name = str(own) if isinstance(own, str | int) and str(own).strip() else name
    told = tuple(each for picture in talk.names for each in views.told(picture))
    licence = words(entry, "license", "licence") or rights.licence
    attribution = words(entry, "attribution") or rights.attribution
    content = hashed(entry)
    return [
        Row(
            info=ExampleInfo(
                id=name if len(talk.turns) == 1 else f"{name}#{number}", task=_task(talk, number),
                pictures=told, place=place, licence=licence, attribution=attribution,
                content=content,
            ),
            where=where if len(talk.turns) == 1 else f"{where}, turn {number}",
            open=partial(_open, talk, number - 1, views),
        )
        for number in range(1, len(talk.turns) + 1)
    ]  # fmt: skip


def _task(talk: _Talk, number: int) -> str:
    if SEG in talk.turns[number - 1].reply:
        return "segment"
    if talk.entry.get("regions"):
        return "region"
    return "frames" if talk.video else "question"


def _talk(entry: Any, where: str) -> _Talk:
    key = "messages" if isinstance(entry, Mapping) and "messages" in entry else "conversations"
    said = need(entry, key, list, where)
    names, video = _names(entry, where)
    turns: list[Turn] = []
    question: str | None = None
    marks = 0
    for number, message in enumerate(said, start=1):
        role, text, more = _message(message, f"{where}, message {number}")
        plain, found = unmarked(text)
        if (found or more) and (turns or role == "gpt"):
            raise wrong(
                f"{where}, message {number}", "a picture comes after the first question.",
                change="put all pictures into the first one: that is where the model reads them",
            )  # fmt: skip
        marks, names = marks + found, (*names, *more)
        if (role == "human") is (question is not None):
            raise wrong(
                f"{where}, message {number}", "questions and answers don't alternate.",
                found=f"another message of {role}", change="human, gpt, human, gpt, …",
            )  # fmt: skip
        if role == "human":
            question = plain
        else:
            # An empty answer is for the check to report; an empty question can't be asked.
            turns.append(Turn(question=question or "", reply=plain))
            question = None
    if question is not None or not turns:
        raise wrong(where, "a question has no answer.", found=f"{len(said)} messages",
                    change="end each conversation with an answer")  # fmt: skip
    if marks not in (0, 1, len(names)) or (marks and not names):
        raise wrong(where, "picture marks and pictures differ in number.",
                    found=f"{marks} marks, {len(names)} pictures")  # fmt: skip
    return _Talk(turns=tuple(turns), names=names, video=video, entry=entry, where=where)


def _names(entry: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], bool]:
    """Pictures of an entry, and whether they are frames."""
    for key in ("video", "videos", "image", "images"):
        value = entry.get(key)
        if value is None or value == []:
            continue
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names):
            raise wrong(where, f"{key!r} must name files.", found=repr(value))
        return tuple(names), key.startswith("video")
    return (), False


def _message(message: Any, where: str) -> tuple[str, str, tuple[str, ...]]:
    """Who said what, and the pictures named inside."""
    plain = isinstance(message, Mapping) and "from" in message
    who = need(message, "from" if plain else "role", str, where)
    if who not in _ROLES:
        raise wrong(
            where, f"nobody is called {who!r} here.", found="no such turn in the model's template",
            change="human and gpt, or user and assistant; what a system turn says goes into the "
            "first question",
        )  # fmt: skip
    content = need(message, "value" if plain else "content", (str, list), where)
    if isinstance(content, str):
        return _ROLES[who], content, ()
    texts, names = [], []
    for part in content:
        kind = need(part, "type", str, where)
        if kind == "text":
            texts.append(need(part, "text", str, where))
            continue
        value = next((part[k] for k in ("image", "path", "url", "image_url") if k in part), None)
        value = value.get("url") if isinstance(value, Mapping) else value
        if not isinstance(value, str) or value.startswith(("http:", "https:", "data:")):
            raise wrong(where, "a picture must be a file.", found=repr(value),
                        change="download it and name the file")  # fmt: skip
        names.append(value)
    return _ROLES[who], "\n".join(texts), tuple(names)


def _open(talk: _Talk, index: int, views: Views) -> Opened:
    shown = views.open(talk.names, talk.where, video=talk.video)
    outlines = talk.entry.get("regions") or []
    regions = _regions(outlines, shown, talk.where, views) if outlines else ()
    turns = [
        Turn(question=with_regions(turn.question, len(regions), talk.where), reply=turn.reply)
        for turn in talk.turns[: index + 1]
    ]
    prompt = Prompt(
        text=turns[index].question, views=shown, regions=regions, history=tuple(turns[:index])
    )
    return Opened(prompt, turns[index].reply, _masks(talk, index, shown, views))


def _regions(
    outlines: Any, shown: tuple[View, ...], where: str, views: Views
) -> tuple[Region, ...]:
    if not isinstance(outlines, list) or not shown:
        raise wrong(where, "regions are a list of outlines on a picture.", found=repr(outlines))
    masks = [_outline(outline, shown[0], where, views) for outline in outlines]
    return tuple(Region(mask=mask, label=f"region{n}") for n, mask in enumerate(masks, start=1))


def _masks(
    talk: _Talk, index: int, shown: tuple[View, ...], views: Views
) -> NDArray[np.bool_] | None:
    """Those of one turn; a turn that marks nothing has none."""
    outlines = talk.entry.get("masks")
    marks = [turn.reply.count(SEG) for turn in talk.turns]
    if outlines is None:
        return None
    if not isinstance(outlines, list) or len(outlines) != sum(marks) or not shown:
        raise wrong(
            talk.where, "each [SEG] of the answers needs one mask, on a picture.",
            found=f"{sum(marks)} [SEG], {len(shown)} pictures, masks {outlines!r}",
            change="one outline per [SEG], in their order",
        )  # fmt: skip
    first = sum(marks[:index])
    own = outlines[first : first + marks[index]]
    if not own:
        return None
    drawn = views.drawn(shown)
    if len(drawn) == 1:
        return np.stack([_outline(each, drawn[0], talk.where, views) for each in own])
    for each in own:
        if not isinstance(each, list) or len(each) != len(drawn):
            raise wrong(
                talk.where, "an object in frames needs one outline per frame.",
                found=f"{len(drawn)} frames, {each!r}", change="null where it is hidden",
            )  # fmt: skip
    return np.stack(
        [
            [_outline(o or [], v, talk.where, views) for o, v in zip(each, drawn, strict=True)]
            for each in own
        ]
    )


def _outline(outline: Any, view: View, where: str, views: Views) -> NDArray[np.bool_]:
    """(H, W) of polygons, run lengths, or the name of a mask picture."""
    if isinstance(outline, str):
        return views.mask(outline, where)
    return mask_of(outline, view.shape, where)
