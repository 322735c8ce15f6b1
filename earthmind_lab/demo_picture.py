"""HTML of the demo's page: two sensors with a handle to swipe, masks over both, a legend, the talk.

The only HTML of the demo is made in here, of pictures, numbers and escaped words. (Gradio's own
Chatbot puts a message into the page as HTML even where it is told not to render Markdown.) A
picture, and the file that a visitor saves, is inside its own address (``data:``): the server keeps
no copy that somebody else could open.

>>> when("2019-09-18T00:00:00Z/2019-09-18T23:59:59Z"), when("2020-04-10T14:38:49Z")
('2019-09-18', '2020-04-10 14:38 UTC')
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.exchange import View
from earthmind_lab.figures import TINTS, draw_masks
from earthmind_lab.quicklook import data_url

Masks: TypeAlias = Sequence[tuple[str, NDArray[np.bool_]]]
"""Label and (H, W) mask of each object."""
SIDE_PX = 1600
"""Longest side of a picture on the page; the model sees the original."""
CSS = """
.em-seen { margin: 0; --at: 50%; }
.em-seen > div { position: relative; overflow: hidden; border-radius: 8px; background: #000;
  max-height: 68vh; margin: 0 auto; }
.em-seen img { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0;
  object-fit: contain; image-rendering: pixelated; }
.em-two img + img { clip-path: inset(0 0 0 var(--at)); }
.em-two > div::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at);
  width: 2px; margin-left: -1px; background: #fff; box-shadow: 0 0 4px #000; pointer-events: none; }
.em-seen input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
  cursor: ew-resize; }
.em-seen > div:focus-within { outline: 2px solid var(--color-accent); }
.em-seen figcaption { font-size: .85em; color: var(--body-text-color-subdued); }
.em-seen figcaption p { display: flex; flex-wrap: wrap; justify-content: space-between;
  gap: 4px 16px; margin: 4px 0; }
.em-seen i { display: inline-block; width: 12px; height: 12px; margin-right: 6px;
  border-radius: 2px; }
.em-talk { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column;
  gap: 8px; min-height: 200px; padding: 12px; background: var(--block-background-fill); }
.em-talk li { margin: 0; padding: 6px 12px; border-radius: 12px; max-width: 85%;
  white-space: pre-wrap; overflow-wrap: anywhere; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); align-self: flex-start; }
.em-talk .em-asked { align-self: flex-end; background: var(--color-accent-soft); }
.em-talk .em-note { background: none; border-style: dashed;
  color: var(--body-text-color-subdued); }
.em-file { text-decoration: underline; color: var(--link-text-color); }
"""
SWIPE = """
element.addEventListener('input', event => {
  const figure = event.target.closest('.em-seen');
  if (figure) figure.style.setProperty('--at', event.target.value + '%');
});
"""


def seen(views: Sequence[View], masks: Masks = (), credit: str = "") -> str:
    """One picture, or two with a handle to swipe between them; masks drawn over both.

    Args:
        views: One or two on one grid, the left one first.
        masks: Label and (H, W) bool each.
        credit: Whose data it is.
    """
    drawn = [mask for _, mask in masks]
    pictures = "".join(
        f'<img src="{_data_url(draw_masks(view.image, drawn))}" alt="{escape(_told(view))}">'
        for view in views
    )
    handle = '<input type="range" min="0" max="100" value="50" aria-label="swipe">'
    names = "".join(f"<span>{escape(_told(view))}</span>" for view in views)
    keys = "".join(
        f'<span><i style="background:rgb{tint}"></i>{escape(label)}</span>'
        for (label, _), tint in zip(masks, itertools.cycle(TINTS), strict=False)
    )
    two = len(views) > 1
    height, width = views[0].shape
    return (
        f'<figure class="em-seen{" em-two" if two else ""}" style="--at:50%">'
        f'<div style="aspect-ratio:{width}/{height}">{pictures}{handle if two else ""}</div>'
        f"<figcaption><p>{names}</p><p>{keys}</p><p>{escape(credit)}</p></figcaption></figure>"
    )


def talk(turns: Sequence[tuple[str, str]]) -> str:
    """Questions and answers, oldest first.

    Args:
        turns: Kind (``asked``, ``said``, ``note``) and text each.
    """
    rows = "".join(f'<li class="em-{kind}">{escape(text)}</li>' for kind, text in turns)
    empty = '<li class="em-note">Ask something about the picture.</li>'
    return f'<ol class="em-talk" role="log" aria-label="Talk">{rows or empty}</ol>'


def link(features: Mapping[str, Any], name: str) -> str:
    """A link that saves a FeatureCollection; empty where there is no feature."""
    if not features.get("features"):
        return ""
    data = base64.b64encode(json.dumps(features, ensure_ascii=False).encode()).decode()
    return (
        f'<a class="em-file" download="{escape(name)}.geojson" '
        f'href="data:application/geo+json;base64,{data}">Save the mapped objects as GeoJSON</a>'
    )


def when(observed: str) -> str:
    """An acquisition's time for people; an interval as its days.

    Args:
        observed: ISO 8601 instant in UTC, or ``A/B``.
    """
    if "/" in observed:
        return " to ".join(dict.fromkeys(part[:10] for part in observed.split("/")))
    return f"{observed[:10]} {observed[11:16]} UTC"


def _told(view: View) -> str:
    """Sensor, day, and what the colours mean."""
    if view.time is None:
        return view.name
    unit = "dB" if view.modality == "sar" else "reflectance"
    bands = ", ".join(
        f"{band} {low:g} … {high:g}"
        for band, (low, high) in dict(zip(view.bands, view.stretch, strict=True)).items()
    )
    kind = "SAR" if view.modality == "sar" else "Optical"
    return f"{kind}, {when(view.time)}: {bands} ({unit})"


def _data_url(image: NDArray[np.uint8]) -> str:
    """(H, W, 3) as a JPEG inside its own address, no larger than it is shown."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((SIDE_PX, SIDE_PX))
    return data_url(np.asarray(picture))
