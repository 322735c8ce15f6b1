"""One HTML file of an area's answers: place, pictures, objects, evidence, methods. Opens offline.

    write_report("flood.html", [answer], chip=chip, title="Open water near Orihuela")

The file holds everything itself and asks for nothing: no script, no font, no address. Its content
policy forbids a browser to do otherwise. All text in it comes from users, models and catalogs, so
all of it is escaped.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import Answer, format_area
from earthmind_lab.chip import Chip
from earthmind_lab.citing import cite
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.figures import TINTS, caption, draw_masks
from earthmind_lab.methods import day_words
from earthmind_lab.quicklook import data_url
from earthmind_lab.record import Record
from earthmind_lab.render import default_composites, render
from earthmind_lab.sensors import MODALITY_WORDS
from earthmind_lab.whole_file import whole_file

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

LAND = Path(__file__).parent / "widgets" / "land.png"
"""The land of the world in web Mercator, from Natural Earth."""
AROUND_PX = 110
"""Half of the locator's side in pixels of that picture."""
MOST_OBJECTS = 200
"""Rows of one table; the rest is counted. The record and the exports have all of them."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8888; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { border-top: 1px solid var(--line); padding-top: 1.2rem; }
figure { display: inline-block; margin: 0 .8rem .8rem 0; vertical-align: top; max-width: 100%; }
figure img { image-rendering: pixelated; width: 24rem; max-width: 100%; display: block; }
figcaption { font-size: .85rem; max-width: 24rem; }
table, caption { font-size: .9rem; text-align: left; } table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .8rem .2rem 0; text-align: left; }
blockquote { margin: .6rem 0; padding: .4rem 1rem; background: var(--soft); white-space: pre-wrap; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .4em; }
@media print { body { max-width: none; } }
"""


@dataclass(frozen=True, kw_only=True)
class _Said:
    """A question with what came of it, be it an answer or a turn of a session."""

    question: str
    text: str
    remark: str
    notice: str
    features: tuple[Mapping[str, Any], ...]
    evidence: tuple[Mapping[str, Any], ...]
    record: Record | None


def write_report(
    path: str | Path,
    answers: Sequence[Answer | Mapping[str, Any]],
    *,
    chip: Chip | None = None,
    title: str = "",
) -> Path:
    """Write answers about one area, in their order, as one HTML file.

    Args:
        path: File to write; it appears complete or not at all.
        answers: Answers, or turns of a session as plain data (`SaidTurn.to_dict`).
        chip: The pixels that they are about; None = no pictures.
        title: Headline; default: the name of the AOI.

    Returns:
        The path.

    Raises:
        EarthMindError: No answer, or the file can't be written.
    """
    said = [_said(each) for each in answers]
    if not said:
        raise EarthMindError("A report needs an answer.", change="ask something first")
    record = next((each.record for each in said if each.record is not None), None)
    name = str(((record and record.aoi) or {}).get("name") or "")
    page = "\n".join(_page(said, chip, title or name or "Answers about a picture"))
    path = Path(path)
    with whole_file(path) as draft:
        draft.write_text(page, encoding="utf-8", errors="replace")
    return path


def _said(given: Answer | Mapping[str, Any]) -> _Said:
    if isinstance(given, Answer):
        claims = [{**claim.to_dict(), "sentence": claim.sentence()} for claim in given.evidence]
        features = given.to_geojson()["features"] if given.grid is not None else ()
        return _Said(
            question=given.record.question, text=given.text, remark=given.reply.remark,
            notice=given.notice, features=_dated(features, given.record), evidence=tuple(claims),
            record=given.record,
        )  # fmt: skip
    record = given.get("record")
    found = None if record is None else Record.from_dict(dict(record))
    return _Said(
        question=str(given["question"]), text=str(given.get("text", "")),
        remark=str(given.get("message", "")), notice=str(given.get("notice", "")),
        features=_dated((given.get("features") or {}).get("features", ()), found),
        evidence=tuple(given.get("evidence", ())), record=found,
    )  # fmt: skip


def _dated(
    features: Sequence[Mapping[str, Any]], record: Record | None
) -> tuple[Mapping[str, Any], ...]:
    """Objects of two dates, each with its own in the label: one picture shows them both."""
    if record is None or not any(each.get("date") for each in record.inputs):
        return tuple(features)
    return tuple(
        {**each, "properties": {**own, "label": f"{_label(each)} {_day(own)}"}}
        for each in features
        for own in (each.get("properties") or {},)
    )


# --- the page ------------------------------------------------------------------------------------


def _page(said: Sequence[_Said], chip: Chip | None, title: str) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
    yield f"<h1>{escape(title)}</h1>"
    records = [each.record for each in said if each.record is not None]
    yield from _place(records)
    views: tuple[View, ...] = ()
    if chip is not None:
        names = default_composites(chip)
        views = render(chip, names) if names else ()
        yield "<h2>What was seen</h2>"
        yield from (_figure(view.image, _caption(view)) for view in views)
    else:
        yield "<p>The pixels were not at hand when this was written, so there are no pictures.</p>"
    for number, each in enumerate(said, start=1):
        yield from _answer(number, each, chip, views)
    yield from _sources(records)
    yield "</main></body></html>"


def _place(records: Sequence[Record]) -> Iterator[str]:
    """Where it is, and what was looked at when."""
    record = next((each for each in records if each.aoi is not None), None)
    if record is None or record.aoi is None:
        return
    from shapely.geometry import shape

    outline = shape(record.aoi["geometry"])
    west, south, east, north = outline.bounds
    yield "<h2>Where and when</h2>"
    yield _locator(outline)
    rows = [("Area of interest", str(record.aoi.get("name", "")))]
    rows += [
        ("Bounds", f"{west:.5f}, {south:.5f}, {east:.5f}, {north:.5f} (W, S, E, N in degrees)")
    ]
    rows += [
        (str(given.get("sensor", "picture")), f"{given.get('id', '')}, {_day(given)}")
        for given in record.inputs
    ]
    yield _table("", (), rows)


def _day(given: Mapping[str, Any]) -> str:
    return day_words(str(given["observed"])) if given.get("observed") else "at an unknown time"


def _answer(number: int, said: _Said, chip: Chip | None, views: Sequence[View]) -> Iterator[str]:
    yield f"<h2>{number}. {escape(said.question)}</h2>"
    yield f"<blockquote>{escape(said.text) or 'No answer.'}</blockquote>"
    for remark in filter(None, (said.remark, said.notice)):
        yield f"<p><small>{escape(remark)}</small></p>"
    labels = list(dict.fromkeys(_label(each) for each in said.features))
    if labels and chip is not None and views:
        base = next((v for v in views if v.name == "true_colour"), views[-1])
        masks = [_mask(said.features, label, chip) for label in labels]
        words = f"Marked: {', '.join(labels)}, over {caption(base)}"
        yield _figure(draw_masks(base.image, masks), words)
    if said.features:
        yield _objects(said.features, labels)
    if said.evidence:
        yield "<h3>Evidence</h3><ul>"
        for claim in said.evidence:
            sentence = str(claim.get("sentence") or claim.get("text", ""))
            yield f"<li><b>{escape(str(claim.get('verdict', '')))}</b>: {escape(sentence)}</li>"
        yield "</ul>"
    if said.record is not None:
        text = json.dumps(said.record.to_dict(), indent=2, sort_keys=True)
        methods = escape(cite(said.record).methods)
        yield f"<details><summary>Methods</summary><p>{methods}</p></details>"
        yield "<details><summary>Record: <code>earthmind replay</code> takes it as a file</summary>"
        yield f"<pre>{escape(text)}</pre></details>"


def _objects(features: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    """One row per object, the largest first."""
    tints = {label: TINTS[n % len(TINTS)] for n, label in enumerate(labels)}
    about = [{**(each.get("properties") or {}), "label": _label(each)} for each in features]
    about.sort(key=lambda own: -float(own.get("area_m2") or 0))
    rows = [
        (
            _Html(_swatch(tints[own["label"]]) + escape(own["label"])),
            format_area(float(own.get("area_m2") or 0)),
            _share(own.get("probability")),
            _share(own.get("score")),
            f"{MODALITY_WORDS.get(str(own.get('source')), 'unknown sensor')}, {_day(own)}",
        )
        for own in about[:MOST_OBJECTS]
    ]
    more = len(about) - len(rows)
    title = f"{len(about)} objects" + (f"; the {more} smallest are left out" if more else "")
    head = ("object", "mapped area", "mean probability", "score of its mask", "drawn from")
    return _table(title, head, rows)


def _sources(records: Sequence[Record]) -> Iterator[str]:
    """Owners, licences and references, each once."""
    if not records:
        return
    found = [cite(record) for record in records]
    yield "<h2>Data and licences</h2><ul>"
    lines = _once(line for each in found for line in each.acknowledgements)
    yield from (f"<li>{escape(line)}</li>" for line in lines)
    yield "<li>Land on the small map: Natural Earth, public domain.</li></ul>"
    entries = _once(entry for each in found for entry in each.bibtex.split("\n\n"))
    yield f"<h2>References</h2><pre>{escape(chr(10).join(entries))}</pre>"


# --- parts ---------------------------------------------------------------------------------------


def _swatch(tint: tuple[int, int, int]) -> str:
    return f'<span class="swatch" style="background:rgb{tint}"></span>'


class _Html(str):
    """Markup of our own making; everything else is text."""

    __slots__ = ()


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    caption_ = f"<caption>{escape(title)}</caption>" if title else ""
    top = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table>{caption_}{f'<tr>{top}</tr>' if head else ''}{body}</table>"


def _cell(text: str) -> str:
    return f"<td>{text if isinstance(text, _Html) else escape(text)}</td>"


def _figure(image: NDArray[np.uint8], words: str) -> str:
    text = escape(words)
    return (
        f'<figure><img alt="{text}" src="{data_url(image, quality=92)}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _caption(view: View) -> str:
    """Name, day, and which value is black and which full colour."""
    unit = "dB" if view.modality == "sar" else "reflectance"
    channels = [
        f"{band} {low:g} to {high:g}"
        for band, (low, high) in zip(view.bands, view.stretch, strict=False)
    ]
    told = ", ".join(_once(channels))
    return f"{caption(view)}" + (f" ({told} {unit})" if told else "")


def _locator(outline: BaseGeometry) -> str:
    """A cut of the world with the area as a dot."""
    from PIL import Image

    world = Image.open(LAND).convert("RGB")
    x, y = _on_land(outline.centroid.x, outline.centroid.y, world.size)
    side = 2 * AROUND_PX
    left = min(max(round(x) - AROUND_PX, 0), world.width - side)
    top = min(max(round(y) - AROUND_PX, 0), world.height - side)
    file = io.BytesIO()
    world.crop((left, top, left + side, top + side)).save(file, "PNG")
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    place = f"{abs(outline.centroid.y):.2f}° {'N' if outline.centroid.y >= 0 else 'S'}, "
    place += f"{abs(outline.centroid.x):.2f}° {'E' if outline.centroid.x >= 0 else 'W'}"
    return (
        f'<figure><svg viewBox="0 0 {side} {side}" width="{side}" height="{side}" role="img" '
        f'aria-label="The area on a map of the land: {place}"><image href="{address}" '
        f'width="{side}" height="{side}"/><circle cx="{x - left:.1f}" cy="{y - top:.1f}" r="5" '
        f'fill="none" stroke="#d00" stroke-width="2.5"/></svg>'
        f"<figcaption>{place}</figcaption></figure>"
    )


def _on_land(lon: float, lat: float, size: tuple[int, int]) -> tuple[float, float]:
    """Pixel of a place in the picture of the land, which is web Mercator."""
    width, height = size
    north = math.asinh(math.tan(math.radians(max(-85.0, min(85.0, lat)))))
    return (lon + 180) / 360 * width, (1 - north / math.pi) / 2 * height


def _mask(features: Sequence[Mapping[str, Any]], label: str, chip: Chip) -> NDArray[np.bool_]:
    """(y, x) True where features of a label lie."""
    from shapely.geometry import shape

    from earthmind_lab.grid import polygons_to_mask

    shapes = [shape(f["geometry"]) for f in features if f.get("geometry") and _label(f) == label]
    return polygons_to_mask(shapes, chip.grid)


def _label(feature: Mapping[str, Any]) -> str:
    return str((feature.get("properties") or {}).get("label") or "object")


def _share(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "unknown"


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
