"""Masks by name: COCO's instances.json with the index of REFER, as the published sets have them.

One example per entry of the index: one of its sentences, drawn by id and seed, in one of the
phrasings of `questions`, and the mask of its annotations. ``refs(unc).p`` is a pickle, which is
read without being run (`plain_pickle`); the same content as JSON works too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from earthmind_lab.errors import EarthMindError, LoadError
from earthmind_lab.exchange import Prompt
from earthmind_lab.finetune.conversations import Rights
from earthmind_lab.finetune.examples import ExampleInfo
from earthmind_lab.finetune.plain_pickle import read_plain_pickle
from earthmind_lab.finetune.questions import SEGMENT, SEGMENTED, pick
from earthmind_lab.finetune.reading import need, numbered, read_data, words
from earthmind_lab.finetune.shapes import mask_of
from earthmind_lab.finetune.source import Opened, Row, broken, hashed, wrong
from earthmind_lab.finetune.views import Views

PICKLES = (".p", ".pkl", ".pickle")


def index_beside(folder: Path) -> Path:
    """The REFER index of a folder; as JSON where there are both.

    Raises:
        LoadError: None, or several.
    """
    found = [path for path in sorted(folder.glob("refs*")) if path.suffix.lower() == ".json"]
    found = found or [p for p in sorted(folder.glob("refs*")) if p.suffix.lower() in PICKLES]
    if len(found) != 1:
        raise LoadError(
            f"{folder.name} holds no single index of REFER beside its instances.",
            found=", ".join(path.name for path in found) or "no refs*.json and no refs*.p",
            change="one refs.json or refs(unc).p in the same folder",
        )
    return found[0]


def refer_rows(
    instances: Any, name: str, index: Path, views: Views, rights: Rights, *, split: str | None,
    seed: int,
) -> list[Row]:  # fmt: skip
    """Examples of an index.

    Args:
        instances: Content of instances.json.
        name: Of that file.
        index: The file of references.
        views: Where pictures are.
        rights: Of the data set.
        split: Only references of this one, such as ``train``; None = all.
        seed: Of sentences and phrasings.

    Raises:
        LoadError: A file of another shape, or no reference in the split.
    """
    pickled = index.suffix.lower() in PICKLES
    refs = read_plain_pickle(index) if pickled else read_data(index)
    images = _by_id(instances, "images", name)
    annotations = _by_id(instances, "annotations", name)
    licences = _licences(instances.get("licenses"))
    found, splits = [], set()
    for where, ref in numbered(refs, index.name):
        told = ref.get("split") if isinstance(ref, Mapping) else None
        splits.add(str(told))
        if split is None or told == split:
            found.append(_row(ref, where, images, annotations, licences, views, rights, seed))
    if not found:
        raise LoadError(f"{index.name} has no reference of the split {split!r}.",
                        found=", ".join(sorted(splits)), change="one of these")  # fmt: skip
    return found


def _by_id(instances: Any, key: str, name: str) -> dict[Any, Mapping[str, Any]]:
    listed = need(instances, key, list, name)
    return {each["id"]: each for each in listed
            if isinstance(each, Mapping) and isinstance(each.get("id"), int | str)}  # fmt: skip


def _licences(listed: Any) -> dict[Any, str]:
    """By their ids; not every file has them."""
    named = (each for each in listed or [] if isinstance(each, Mapping))
    return {str(each.get("id")): words(each, "name", "url") for each in named}


def _row(
    ref: Any, where: str, images: Mapping[Any, Any], annotations: Mapping[Any, Any],
    licences: Mapping[Any, str], views: Views, rights: Rights, seed: int,
) -> Row:  # fmt: skip
    name = where
    try:
        name = f"ref-{need(ref, 'ref_id', (int, str), where)}"
        image = _known(images, need(ref, "image_id", (int, str), where), "picture", where)
        ids: Any = ref.get("ann_id")
        parts = [_known(annotations, each, "annotation", where)
                 for each in (ids if isinstance(ids, list | tuple) else [ids])]  # fmt: skip
        sentence = _sentence(ref, name, where, seed)
        file = need(image, "file_name", str, where)
        size = need(image, "height", int, where), need(image, "width", int, where)
    except EarthMindError as error:
        return broken(where, name, error)
    question = pick(SEGMENT, "question", name, seed).format(name=_escaped(sentence))
    reply = pick(SEGMENTED, "reply", name, seed)
    info = ExampleInfo(
        id=name, task="segment", pictures=views.told(file), attribution=rights.attribution,
        licence=licences.get(str(image.get("license")), "") or rights.licence,
        content=hashed(question, reply, parts),
    )  # fmt: skip
    return Row(
        info=info,
        where=where,
        open=partial(_open, views, file, where, question, reply, parts, size),
    )


def _open(
    views: Views, file: str, where: str, question: str, reply: str,
    parts: Iterable[Mapping[str, Any]], size: tuple[int, int],
) -> Opened:  # fmt: skip
    shown = views.open((file,), where)
    # Of the declared size: a picture of another size is found by the check, not stretched over.
    masks = [mask_of(part.get("segmentation"), size, where) for part in parts]
    prompt = Prompt(text=question, views=shown)
    return Opened(prompt, reply, np.logical_or.reduce(masks)[None])


def _known(table: Mapping[Any, Any], key: Any, what: str, where: str) -> Mapping[str, Any]:
    if not isinstance(key, int | str) or key not in table:
        raise wrong(where, f"there is no {what} {key!r} in the instances.",
                    change="index and instances of one data set")  # fmt: skip
    found: Mapping[str, Any] = table[key]
    return found


def _sentence(ref: Mapping[str, Any], name: str, where: str, seed: int) -> str:
    sentences = [words(each, "raw", "sent") for each in need(ref, "sentences", list, where)
                 if isinstance(each, Mapping)]  # fmt: skip
    sentences = [text for text in sentences if text]
    if not sentences:
        raise wrong(where, "no sentence says what to segment.", change="sentences[].raw")
    return pick(sentences, "sentence", name, seed).rstrip(". ")


def _escaped(text: str) -> str:
    return text.replace("\n", " ")
