"""Which questions earthmind-nano is asked about a training window, drawn evenly.

Questions and answers themselves are those of `earthmind_lab.finetune.asks` and `asks_beyond`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.truth import CLOUDS, PixelTruth
from earthmind_lab.finetune import asks_beyond
from earthmind_lab.finetune.asks import EVERY_KIND, Ask, asks_of, region_of
from earthmind_lab.finetune.words import GROUND, SYNONYMS

if TYPE_CHECKING:
    from nano_data import Dates, Window

WEIGHTS = {
    "presence": 6.0, "segment": 7.0, "dominant": 2.0, "describe": 2.5, "share": 2.0, "compare": 2.0,
    "two": 1.2, "region": 1.2, "verify": 1.2, "clouds": 0.7, "count": 1.5, "outside": 1.4,
    "change": 1.0,
}  # fmt: skip
"""How often each kind is asked, where it can be."""
OF_GROUND = [CLASSES.index(name) for name in GROUND]
STEP = 2
"""Questions follow from every second pixel: a quarter of the work."""
HIDDEN_SHARE = 0.8
"""Share under cloud from which a prompt without SAR is told that clouds hide the ground."""
FOLLOW_UPS = 0.12
"""Share of questions that come after one to four earlier ones of the same conversation."""
_DECISIVE = re.compile(
    r"Yes|No\b|Sure|There (?:is|are) no|can't|Clouds|Nothing|\[SEG\]|harvested|moved|first|second|"
    r"more than six|one|two|three|four|five|six|tenth|fifth|third|half|fifths|thirds|All|Nearly|"
    r"Less|[Mm]ore|[Ff]ewer|[Ll]ess|" + "|".join(re.escape(n) for n in CLASSES),
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One question with its answer."""

    question: str
    answer: str
    kind: str = ""
    """Of `WEIGHTS`."""
    segments: tuple[int, ...] = ()
    """Class index of each [SEG]."""
    region: NDArray[np.bool_] | None = None
    """(S, S) what region1 marks."""


def lines(window: Window, mode: str, rng: np.random.Generator, count: int) -> list[Line]:
    """`count` questions about a window, as a prompt of `mode` sees it."""
    optical_only = mode in ("optical", "picture")
    small = slice(None, None, STEP)
    yes, no = (array[OF_GROUND, small, small] for array in (window.yes, window.no))
    cloud = window.cloud[small, small]
    hidden = optical_only and cloud.mean() > HIDDEN_SHARE
    if optical_only and not hidden:
        yes, no = yes & ~cloud, no & ~cloud
    truth, ground = PixelTruth(yes=yes, no=no), np.ones(cloud.shape, bool)
    key, seed = "window", int(rng.integers(2**31))
    asks = list(asks_of(truth, ground, GROUND, key, kinds=EVERY_KIND, seed=seed, words=SYNONYMS))
    if hidden:
        asks = [asks_beyond.hidden(ask) for ask in asks if ask.kind not in ("region", "verify")]
    elif window.counts is not None and not (optical_only and cloud.any()):
        asks += asks_beyond.count_asks(window.counts, key, seed=seed)
    share = float(cloud.mean()) if window.cloud_known and mode != "sar" else None
    over = list(asks_beyond.cloud_asks(share, key, seed=seed, drawn=optical_only))
    asks += [*over, *asks_beyond.outside_asks(GROUND, key, seed=seed)]
    return [
        _line(ask, truth, ground, rng, of_clouds=ask in over) for ask in drawn(asks, rng, count)
    ]


def change_lines(dates: Dates, rng: np.random.Generator, count: int) -> list[Line]:
    """`count` questions about two dates."""
    small = slice(None, None, STEP)
    before, after = (
        PixelTruth(yes=yes[OF_GROUND, small, small], no=~yes[OF_GROUND, small, small])
        for yes in dates.yes
    )
    seed = int(rng.integers(2**31))
    ground = np.ones(before.yes.shape[1:], bool)
    asks = list(
        asks_beyond.change_asks(
            before, after, ground, GROUND, "dates", changed=dates.change != "none",
            happened=asks_beyond.HAPPENED.get(dates.change), seed=seed, words=SYNONYMS,
        )
    )  # fmt: skip
    asks += asks_beyond.outside_asks(GROUND, "dates", seed=seed)
    return [_line(ask, before, ground, rng) for ask in drawn(asks, rng, count)]


def earlier_of(line: Line, found: Sequence[Line], rng: np.random.Generator) -> list[Line]:
    """Questions about the same window that come before one: mostly none, never with regions."""
    if line.region is not None or rng.random() >= FOLLOW_UPS:
        return []
    others = [other for other in found if other.region is None and other is not line]
    count = min(len(others), int(rng.integers(1, 5)))
    return [others[i] for i in rng.permutation(len(others))[:count]]


def drawn(asks: Sequence[Ask], rng: np.random.Generator, count: int) -> list[Ask]:
    """Some of the questions: kinds by their weights, then yes and no alike, then any."""
    kinds: dict[str, dict[bool, list[Ask]]] = {}
    for ask in asks:
        sides = kinds.setdefault(ask.kind, {})
        sides.setdefault(ask.reply.startswith(("No", "There is no", "There are no")), []).append(
            ask
        )
    names = list(kinds)
    weights = np.array([WEIGHTS[name] for name in names])
    found = []
    for _ in range(count):
        sides = kinds[names[rng.choice(len(names), p=weights / weights.sum())]]
        # Masks are worth more than refusals.
        refuse = rng.random() < (
            0.32 if True in sides and sides[True][0].kind == "segment" else 0.5
        )
        chosen = sides[refuse] if refuse in sides else next(iter(sides.values()))
        found.append(chosen[rng.integers(len(chosen))])
    return found


def _line(
    ask: Ask, truth: PixelTruth, ground: NDArray[np.bool_], rng: np.random.Generator,
    *, of_clouds: bool = False,
) -> Line:  # fmt: skip
    if ask.kind in ("region", "verify") and ask.index is not None:
        region = _part(region_of(truth, ground, ask.index), rng)
        region = region.repeat(STEP, 0).repeat(STEP, 1)
        return Line(question=ask.question, answer=ask.reply, kind=ask.kind, region=region)
    places = (() if ask.index is None else (ask.index,)) + ask.further
    segments = tuple(CLOUDS if of_clouds else OF_GROUND[place] for place in places)
    return Line(question=ask.question, answer=ask.reply, kind=ask.kind, segments=segments)


def _part(region: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mostly what lies in a box around one of its pixels: people mark parts."""
    if rng.random() < 0.3:
        return region
    rows, columns = np.nonzero(region)
    at, half = int(rng.integers(len(rows))), int(rng.integers(12, 45))
    box = np.zeros_like(region)
    y, x = int(rows[at]), int(columns[at])
    box[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = True
    return region & box


def decisive(answer: str) -> list[tuple[int, int]]:
    """Character spans of an answer that carry its content."""
    return [match.span() for match in _DECISIVE.finditer(answer)]
