"""One door for every form of training data that stands in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from earthmind_lab.errors import AssetUnavailable, LoadError
from earthmind_lab.finetune.conversations import Rights, conversation_rows
from earthmind_lab.finetune.folders import PictureFolder
from earthmind_lab.finetune.reading import LINES, numbered, read_data
from earthmind_lab.finetune.refer import PICKLES, index_beside, refer_rows
from earthmind_lab.finetune.regions import region_rows
from earthmind_lab.finetune.source import Source, unique
from earthmind_lab.finetune.views import RGB, SAR, Views

FormName = Literal["llava", "messages", "refer", "regions"]
_ABOUT = {
    "llava": "conversations (LLaVA, ShareGPT)",
    "messages": "lists of messages",
    "refer": "masks by name (COCO instances with a REFER index)",
    "regions": "descriptions of regions (OspreyDescription)",
}
_EXPECTED = (
    "a list of {image, conversations}, of {messages, images}, or of {file_name, description, "
    "annotation}; or instances.json beside refs*.json or refs*.p"
)


def open_examples(
    path: str | Path,
    *,
    form: FormName | None = None,
    images: str | Path | None = None,
    frames: int = 5,
    split: str | None = None,
    licence: str = "",
    attribution: str = "",
    seed: int = 0,
) -> Source:
    """Training data of a file or folder; nothing but the text is read yet.

    Args:
        path: JSON or JSON Lines, or a folder that holds one such file or an instances.json with
            its REFER index.
        form: What it is: ``llava``, ``messages``, ``refer`` or ``regions``; None = as its content
            looks, which `Source.said` tells.
        images: Folder that names of pictures are relative to; None = that of the file, or
            ``images`` in it. Where it holds rgb/img and sar/img, each name is a pair.
        frames: Most frames of a series; EarthMind reads 5.
        split: Of a REFER index: only this one.
        licence: Of the data set, for entries that don't say their own.
        attribution: The same for whom to name.
        seed: Of sentences and phrasings, where the data set leaves the choice.

    Raises:
        AssetUnavailable: A file or folder is missing.
        LoadError: Not one of these forms. A single entry that can't be used raises only when it is
            opened, so that the others can be.

    Example:
        >>> import json, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "data.json"
        >>> said = [{"from": "human", "value": "What is SAR?"}, {"from": "gpt", "value": "Radar."}]
        >>> _ = path.write_text(json.dumps([{"id": "1", "conversations": said}]))
        >>> examples = open_examples(path)
        >>> examples.form, examples[0].prompt.text, examples[0].reply
        ('llava', 'What is SAR?', 'Radar.')
    """
    path = _file(Path(path).expanduser())
    if form is not None and form not in get_args(FormName):
        raise LoadError(f"There is no form {form!r}.", change=", ".join(get_args(FormName)))
    data = read_data(path)
    form = form or _recognised(data, path)
    views = Views(PictureFolder(images or _pictures_beside(path.parent)), frames=frames)
    rights = Rights(licence=licence, attribution=attribution)
    stem = path.stem
    if form == "refer":
        index = index_beside(path.parent)
        rows = refer_rows(data, path.name, index, views, rights, split=split, seed=seed)
        count = f"{index.name} with {path.name}"
    else:
        listed = numbered(data, path.name)
        rows = []
        for number, (where, entry) in enumerate(listed, start=1):
            name = f"{stem}-{number}"
            if form == "regions":
                rows += region_rows(entry, where, name, views, rights, seed=seed)
            else:
                rows += conversation_rows(entry, where, name, views, rights)
        count = f"{len(listed)} entries"
    pairs = f", pairs from {RGB} and {SAR}" if views.pairs else ""
    said = f"{path.name}: {_ABOUT[form]}, {count}, {len(rows)} examples{pairs}"
    return Source(form=form, said=said, rows=unique(rows))


def _file(path: Path) -> Path:
    """The file of a path or of a folder."""
    if path.suffix.lower() in PICKLES:
        raise LoadError(
            f"{path.name} is only an index.", change="the folder that holds instances.json, too"
        )
    if path.is_file():
        return path
    if not path.is_dir():
        raise AssetUnavailable(f"There is no training data {str(path)!r}.", change="a file")
    if (path / "instances.json").is_file():
        return path / "instances.json"
    found = [p for p in sorted(path.iterdir()) if p.suffix.lower() in (".json", *LINES)]
    if len(found) != 1:
        listed = ", ".join(each.name for each in found[:5])
        raise LoadError(
            f"The folder {path.name!r} holds no single file of training data.",
            found=listed or "no .json and no .jsonl",
            change="the path of the file, and images=FOLDER for its pictures",
        )
    return found[0]


def _recognised(data: Any, path: Path) -> FormName:
    """The form by content."""
    if isinstance(data, Mapping) and "images" in data and "annotations" in data:
        return "refer"
    if isinstance(data, Mapping) and data.get("type") == "FeatureCollection":
        raise LoadError(
            f"{path.name} holds areas, no questions.",
            change="a name that ends in .geojson, or labelled_areas(…): it makes questions of "
            "areas with a class",
        )
    for _, entry in numbered(data, path.name):
        held = set(entry) if isinstance(entry, Mapping) else set()
        if "messages" in held:
            return "messages"
        if "conversations" in held:
            return "llava"
        if "file_name" in held and held & {"description", "annotation"}:
            return "regions"
    first = data[0]
    keys = (
        ", ".join(map(str, list(first)[:8])) if isinstance(first, Mapping) else type(first).__name__
    )
    raise LoadError(
        f"{path.name} has none of the forms of training data that are known.",
        found=f"entries with {keys}", change=_EXPECTED,
    )  # fmt: skip


def _pictures_beside(folder: Path) -> Path:
    inside = folder / "images"
    return inside if inside.is_dir() else folder
