"""One HTML file of an area's answers: place, pictures, objects, evidence, methods. Opens offline.

    write_report("flood.html", [answer], chips=[chip], title="Open water near Orihuela")

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
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import Answer, format_area
from earthmind_lab.chip import Chip
from earthmind_lab.citing import cite
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.figures import TINTS, draw_masks
from earthmind_lab.methods import day_words, sensor_words
from earthmind_lab.quicklook import data_url
from earthmind_lab.record import Record
from earthmind_lab.record_parts import AFTER, BEFORE, date_of, inputs_seen, record_of_date
from earthmind_lab.recording import pixel_hash
from earthmind_lab.render import COMPOSITES, render
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Picture:
    """What a model was shown, drawn again from the same pixels."""

    date: str
    """`BEFORE` or `AFTER`; empty where one date was asked about."""
    chip: Chip
    view: View
    words: str
    """Sensor, composite and day."""


def write_report(
    path: str | Path,
    answers: Sequence[Answer | Mapping[str, Any]],
    *,
    chips: Iterable[Chip] = (),
    title: str = "",
) -> Path:
    """Write answers about one area, in their order, as one HTML file.

    Objects are drawn on the pixels that they were marked on, and on no others: an answer whose
    pixels aren't among `chips` has a table alone.

    Args:
        path: File to write; it appears complete or not at all.
        answers: Answers, or turns of a session as plain data (`SaidTurn.to_dict`).
        chips: The pixels that they are about, of both dates where two were compared, in any order.
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
    held = {pixel_hash(chip): chip for chip in chips}
    page = "\n".join(_page(said, held, title or name or "Answers about a picture"))
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
            notice=given.notice, features=tuple(features), evidence=tuple(claims),
            record=given.record,
        )  # fmt: skip
    record = given.get("record")
    found = None if record is None else Record.from_dict(dict(record))
    return _Said(
        question=str(given["question"]), text=str(given.get("text", "")),
        remark=str(given.get("message", "")), notice=str(given.get("notice", "")),
        features=tuple((given.get("features") or {}).get("features", ())),
        evidence=tuple(given.get("evidence", ())), record=found,
    )  # fmt: skip


# --- the page ------------------------------------------------------------------------------------


def _page(said: Sequence[_Said], held: Mapping[str, Chip], title: str) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
    yield f"<h1>{escape(title)}</h1>"
    records = [each.record for each in said if each.record is not None]
    yield from _place(records)
    shown = [tuple(_pictures(each.record, held)) if each.record else () for each in said]
    if figures := _once(_figure(each.view.image, _told(each)) for each in chain(*shown)):
        yield "<h2>What was seen</h2>"
        yield from figures
    else:
        yield "<p>The pixels were not at hand when this was written, so there are no pictures.</p>"
    for number, (each, pictures) in enumerate(zip(said, shown, strict=True), start=1):
        yield from _answer(number, each, pictures, _missing(each.record, pictures) * bool(figures))
    yield from _sources(records)
    yield "</main></body></html>"


def _pictures(record: Record, held: Mapping[str, Chip]) -> Iterator[_Picture]:
    """What the model was shown, the earlier date first, as far as its pixels are at hand."""
    dates = (BEFORE, AFTER) if BEFORE in record.chip else repeat("")
    for date, view in zip(dates, record.prompt.get("views", ()), strict=False):
        part = record_of_date(record, date) if date else record
        given = next((e for e in inputs_seen(part) if e.get("modality") == view["modality"]), None)
        chip = held.get(str(part.chip.get("pixel_hash")))
        if given is not None and chip is not None and view["name"] in COMPOSITES:
            (drawn,) = render(chip, [view["name"]])
            words = f"{sensor_words(given)}, {drawn.name.replace('_', ' ')}, {_day(given)}"
            yield _Picture(date=date, chip=chip, view=drawn, words=words)


def _missing(record: Record | None, pictures: Sequence[_Picture]) -> str:
    """Why scenes have no picture."""
    if record is None:
        return ""
    drawn = {(each.date, each.view.modality) for each in pictures}
    lacking = [
        f"{sensor_words(given)} {_day(given)}"
        for given in inputs_seen(record)
        if (given.get("date", ""), given.get("modality")) not in drawn
    ]
    names = " and ".join(lacking)
    return names and f"No picture of {names}: its pixels were not at hand when this was written."


def _place(records: Sequence[Record]) -> Iterator[str]:
    """Where it is, and what was looked at when."""
    from shapely import union_all
    from shapely.geometry import shape

    areas = [record.aoi for record in records if record.aoi is not None]
    if not areas:
        return
    outlines = [shape(area["geometry"]) for area in areas]
    rows = []
    for area, outline in zip(areas, outlines, strict=True):
        west, south, east, north = outline.bounds
        bounds = f"{west:.5f}, {south:.5f}, {east:.5f}, {north:.5f} (W, S, E, N in degrees)"
        rows += [("Area of interest", str(area.get("name", ""))), ("Bounds", bounds)]
    rows += [
        (sensor_words(given), f"{given.get('id', '')}, {_day(given)}")
        for record in records
        for given in record.inputs
    ]
    yield "<h2>Where and when</h2>"
    yield _locator(union_all(outlines))
    yield _table("", (), dict.fromkeys(rows))


def _day(given: Mapping[str, Any]) -> str:
    return day_words(str(given["observed"])) if given.get("observed") else "at an unknown time"


def _answer(number: int, said: _Said, pictures: Sequence[_Picture], missing: str) -> Iterator[str]:
    yield f"<h2>{number}. {escape(said.question)}</h2>"
    yield f"<blockquote>{escape(said.text) or 'No answer.'}</blockquote>"
    for remark in filter(None, (said.remark, said.notice)):
        yield f"<p><small>{escape(remark)}</small></p>"
    labels = _once(_label(each) for each in said.features)
    natural = sorted(pictures, key=lambda each: each.view.name == "true_colour")
    for picture in {(each.date, each.view.modality): each for each in natural}.values():
        yield from _marked(said, labels, picture)
    if missing:
        yield f"<p>{escape(missing)}</p>"
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


def _marked(said: _Said, labels: Sequence[str], picture: _Picture) -> Iterator[str]:
    """The objects that were marked on a picture, on it."""
    own = [
        feature
        for feature in said.features
        for about in (feature.get("properties") or {},)
        if about.get("source") == picture.view.modality
        and (said.record is None or date_of(about, said.record.inputs) == picture.date)
    ]
    if own:
        masks = [_mask(own, label, picture.chip) for label in labels]
        words = f"Marked: {', '.join(_once(map(_label, own)))}, on {picture.words}"
        yield _figure(draw_masks(picture.view.image, masks), words)


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
    title = f"{len(about)} object{'s' * (len(about) != 1)}"
    title += f"; the {more} smallest are left out" if more else ""
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


def _told(picture: _Picture) -> str:
    """Sensor, composite and day, and which value is black and which full colour."""
    view = picture.view
    unit = "dB" if view.modality == "sar" else "reflectance"
    channels = [
        f"{band} {low:g} to {high:g}"
        for band, (low, high) in zip(view.bands, view.stretch, strict=False)
    ]
    told = ", ".join(_once(channels))
    return picture.words + (f" ({told} {unit})" if told else "")


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
