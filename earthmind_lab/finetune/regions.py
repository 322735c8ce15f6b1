"""Descriptions of regions, as OspreyDescription has them: one example per description.

    [{"file_name": "a.png", "height": 256, "width": 256, "description": ["A lake."],
      "annotation": [{"segmentation": [[10, 10, 90, 10, 90, 80]]}]}]

The published class asks about all regions of a picture in turn; here each comes alone, as region1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Prompt, Region
from earthmind_lab.finetune.conversations import Rights
from earthmind_lab.finetune.examples import ExampleInfo
from earthmind_lab.finetune.questions import DESCRIBE, pick
from earthmind_lab.finetune.reading import need, words
from earthmind_lab.finetune.shapes import mask_of
from earthmind_lab.finetune.source import Opened, Row, broken, hashed, wrong
from earthmind_lab.finetune.views import Views

_NUMBER = re.compile(r"^\s*<?region\s*\d+>?\s*:\s*", re.IGNORECASE)
"""Some files number their descriptions; the region is region1 here, whatever its number there."""


def region_rows(
    entry: Any, where: str, name: str, views: Views, rights: Rights, *, seed: int
) -> list[Row]:
    """Examples of one picture; a row that raises where its entry can't be read.

    Args:
        entry: What the file holds.
        where: For people.
        name: Id where the entry has none.
        views: Where pictures are.
        rights: Of the file.
        seed: Of phrasings.
    """
    try:
        file = need(entry, "file_name", str, where)
        size = need(entry, "height", int, where), need(entry, "width", int, where)
        said = need(entry, "description", list, where)
        marked = need(entry, "annotation", list, where)
        if len(said) != len(marked):
            raise wrong(where, "each description needs one region.",
                        found=f"{len(said)} descriptions, {len(marked)} annotations")  # fmt: skip
    except EarthMindError as error:
        return [broken(where, name, error)]
    licence = words(entry, "license", "licence") or rights.licence
    name = str(entry["id"]) if isinstance(entry.get("id"), int | str) else name
    rows = []
    for number, (text, annotation) in enumerate(zip(said, marked, strict=True), start=1):
        own = name if len(said) == 1 else f"{name}#{number}"
        place = where if len(said) == 1 else f"{where}, region {number}"
        question = pick(DESCRIBE, own, seed).format(region="region1")
        info = ExampleInfo(
            id=own, task="region", pictures=views.told(file), licence=licence,
            attribution=words(entry, "attribution") or rights.attribution,
            content=hashed(question, text, annotation),
        )  # fmt: skip
        rows.append(
            Row(
                info=info, where=place,
                open=partial(_open, views, file, place, question, text, annotation, size),
            )
        )  # fmt: skip
    return rows


def _open(
    views: Views, file: str, where: str, question: str, text: Any, annotation: Any,
    size: tuple[int, int],
) -> Opened:  # fmt: skip
    if not isinstance(text, str) or not isinstance(annotation, Mapping):
        raise wrong(where, "a description is a text, an annotation an object.", found=repr(text))
    mask = mask_of(annotation.get("segmentation"), size, where)
    prompt = Prompt(
        text=question,
        views=views.open((file,), where),
        regions=(Region(mask=mask, label="region1"),),
    )
    return Opened(prompt, _NUMBER.sub("", text).strip())
