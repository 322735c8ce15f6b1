"""Pairs and searches as rows of words for the browser: nothing to compute there, nothing is HTML.

pair_row()       a ranked pair, for the table
compared_words() which two dates are compared
choice_rows()    what the user pinned and excluded
terms_of()       what a search asked, for its form
progress_row()   how far a search or a load is
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthmind_lab.session.two_dates import BOTH_DAYS, dates_of, earlier_ranks, later_ranks
from earthmind_lab.widgets.protocol import clean
from earthmind_lab.widgets.words import moment, sensor_words, two_dates_words

if TYPE_CHECKING:
    from earthmind_lab.data.budget import Progress
    from earthmind_lab.session.subject import PairRow, Subject

FACTORS = {
    "V": "valid and clear", "T": "close in time", "Q": "quality", "A": "near the date asked for",
}  # fmt: skip
"""What the factors of a pair's score mean; a name that is not in here is a penalty within Q."""
UNKNOWN = "—"
"""In a cell that nothing fills."""
PATIENCE_S = 5.0
"""A server that is silent for longer is said to be."""
AS_BEFORE = "="
"""In the form: the catalog of the last search, where that is no name and no path."""


def pair_row(row: PairRow, rank: int) -> dict[str, Any]:
    """A ranked pair for the table.

    Args:
        row: As the session keeps it.
        rank: 0 = best.

    Returns:
        Words for every column; ``refused`` says why it can't be loaded, or is empty; ``sort``
        holds the numbers behind the columns, None where unknown.
    """
    pair, cost = row.pair, row.cost
    clear, cloud = pair.get("factors", {}).get("V"), pair.get("cloud_in_aoi")
    return {
        "rank": rank,
        "score": f"{pair.get('score', 0.0):.1f}",
        "scenes": [scene_row(scene) for scene in row.scenes],
        "gap": gap_words(pair.get("gap_hours")),
        "clear": share_words(clear),
        "cloud": "unknown" if cloud is None else f"{cloud:.1f} %",
        "overlap": share_words(pair.get("overlap", 0.0)),
        "cost": cost_words(cost),
        "refused": clean(cost.get("error", "")),
        "factors": [
            {"name": clean(name), "meaning": FACTORS.get(name, "penalty"), "value": f"{value:.2f}"}
            for name, value in pair.get("factors", {}).items()
        ],
        "reasons": [clean(reason) for reason in pair.get("reasons", ())],
        "sort": {
            "score": -float(pair.get("score", 0.0)), "gap": _length(pair.get("gap_hours")),
            "clear": None if clear is None else -float(clear), "cloud": cloud,
            "overlap": -float(pair.get("overlap", 0.0)), "cost": cost.get("bytes"),
        },
    }  # fmt: skip


def scene_row(scene: Mapping[str, Any]) -> dict[str, str]:
    """A scene of `session.scene_facts.facts_of`, in words; what is missing is a dash."""
    orbit = scene.get("orbit") or {}
    track = orbit.get("relative")
    parts = [orbit.get("state"), None if track is None else f"track {track}"]
    angle = scene.get("incidence")
    words = {
        "id": scene.get("id", ""),
        "modality": scene.get("modality", ""),
        "sensor": sensor_words(str(scene.get("sensor", ""))),
        "observed": moment(str(scene.get("observed", ""))),
        "orbit": ", ".join(str(part) for part in parts if part) or UNKNOWN,
        "incidence": UNKNOWN if angle is None else f"{angle:.1f}°",
        "level": scene.get("level") or UNKNOWN,
        "baseline": scene.get("baseline") or UNKNOWN,
        "cloud": share_words(_hundredth(scene.get("cloud"))),
        "coverage": share_words(scene.get("coverage")),
    }
    return {key: clean(value) for key, value in words.items()}


def compared_words(subject: Subject) -> str:
    """Which two dates are compared, or how to; empty where no pair is chosen."""
    dates = dates_of(subject)
    if dates is not None and subject.row is not None and subject.row_before is not None:
        said = f"Compared: {two_dates_words(dates)}."
        return said + _orbits_words(subject.row_before, subject.row, dates["sensor"])
    if subject.row is None or earlier_ranks(subject):
        return ""
    if later_ranks(subject):
        return "To compare two dates, choose the later one first."
    return f"To compare two dates, {BOTH_DAYS}."


def _orbits_words(before: PairRow, after: PairRow, sensor: str) -> str:
    """That SAR looks from two sides; empty where it doesn't, or where nothing tells."""
    tracks = [
        (scene.get("orbit") or {}).get("relative")
        for row in (before, after)
        for scene in row.scenes
        if scene.get("modality") == sensor == "sar"
    ]
    if len(tracks) != 2 or None in tracks or tracks[0] == tracks[1]:
        return ""
    return (
        f" SAR looks from track {tracks[0]}, then {tracks[1]}: backscatter differs where nothing "
        "has changed, too."
    )


def choice_rows(query: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The user's own choices in a search: ``id``, ``how`` (``pin`` or ``exclude``), ``words``."""
    words = {"pin": "Pinned by you", "exclude": "Excluded by you"}
    return [
        {"id": clean(scene), "how": how, "words": words[how]}
        for how in words
        for scene in (query or {}).get(how, ())
    ]


def terms_of(query: Mapping[str, Any] | None) -> dict[str, str]:
    """What a search asked as the texts of its form; empty where it said nothing."""
    asked = query or {}
    catalog, gap = asked.get("catalog", ""), str(asked.get("max_gap") or "")
    hours = gap.removesuffix(" hours")
    cloud = asked.get("max_cloud")
    return {
        "dates": clean(asked.get("dates") or ""),
        "around": clean(asked.get("around") or ""),
        "purpose": clean(asked.get("purpose") or ""),
        "sensors": clean(",".join(asked.get("sensors") or ())),
        "catalog": clean(catalog) if isinstance(catalog, str) else AS_BEFORE,
        "max_gap": f"{float(hours) / 24:.4g}" if hours != gap else "",
        "max_cloud": "" if cloud is None else f"{cloud:g}",
    }


def progress_row(progress: Progress) -> dict[str, str]:
    """How far a search or a load is: ``text`` and, where a server is silent, ``stall``.

    >>> from earthmind_lab.data.budget import Progress
    >>> progress_row(Progress(what="reading cloud masks", done=12, total=40, seconds=14.2,
    ...                       limit=120.0, silent=10.4))["text"]
    'reading cloud masks 12 of 40, 14 s of 120 s'
    """
    counted = f" {progress.done} of {progress.total}" if progress.total else ""
    spent = f"{progress.seconds:.0f} s of {progress.limit:.0f} s"
    text = f"{progress.what or 'working'}{counted}, {spent}"
    who = "catalog" if "catalog" in progress.what else "server of the files"
    late = progress.silent > PATIENCE_S
    # In steps: a screen reader says it each time that it changes.
    since = 5 * int(progress.silent // 5)
    stall = f"The {who} has not answered for {since} s." if late else ""
    return {"text": clean(text), "stall": stall}


def share_words(share: float | None) -> str:
    """A share of 0 to 1 in per cent.

    >>> share_words(0.984), share_words(None)
    ('98 %', '—')
    """
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def cost_words(cost: Mapping[str, Any]) -> str:
    """What a load reads and makes.

    >>> cost_words({"reads": 8, "bytes": 5_150_000, "width": 272, "height": 341})
    '272 × 341 px, reads up to 5.2 MB'
    """
    if "error" in cost:
        return "can't be loaded"
    if not cost:
        return "worked out when it is loaded"
    return f"{cost['width']} × {cost['height']} px, reads up to {size_words(cost['bytes'])}"


def size_words(count: float) -> str:
    """Bytes for people.

    >>> size_words(900), size_words(5_150_000), size_words(2_100_000_000)
    ('900 bytes', '5.2 MB', '2.1 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def gap_words(hours: float | Sequence[float] | None) -> str:
    """Time between the scenes: the later one is named.

    >>> gap_words(16.6), gap_words(-72.0), gap_words([-48.0, 0.0]), gap_words(None)
    ('SAR 16.6 h later', 'SAR 3.0 days earlier', '0 to 2.0 days, time unknown', 'one sensor')
    """
    if hours is None:
        return "one sensor"
    if isinstance(hours, Sequence):
        least, most = min(hours), max(hours)
        nearest = 0.0 if least <= 0 <= most else min(abs(least), abs(most))
        longest = max(abs(least), abs(most))
        return f"{_span(nearest).removesuffix(' h')} to {_span(longest)}, time unknown"
    if hours == 0:
        return "at the same time"
    return f"SAR {_span(abs(hours))} {'later' if hours > 0 else 'earlier'}"


def _span(hours: float) -> str:
    if hours == 0:
        return "0"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _length(hours: float | Sequence[float] | None) -> float | None:
    """|gap| for sorting; of an interval its longest end."""
    if hours is None:
        return None
    return max(map(abs, hours)) if isinstance(hours, Sequence) else abs(hours)


def _hundredth(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
