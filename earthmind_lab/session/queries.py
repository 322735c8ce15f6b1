"""A session's search arguments: checked, completed and made plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from earthmind_lab.errors import SearchError
from earthmind_lab.recording import plain
from earthmind_lab.session.subject import Subject


def query_of(subject: Subject, asked: Mapping[str, Any], *, default_catalog: str) -> dict[str, Any]:
    """A search's arguments as plain data, what the place itself asks for where none is given.

    What nobody asked for, a date to be near, a purpose or ids, isn't in it.

    Args:
        subject: Where to search.
        asked: Arguments of `search_pairs`; None = not given.
        default_catalog: For what is no sample place.

    Raises:
        SearchError: One makes no sense, or there are no dates.
    """
    from earthmind_lab.data import limits, samples
    from earthmind_lab.data.choices import Choice
    from earthmind_lab.data.gaps import tau_days

    if subject.kind != "aoi":
        raise SearchError(f"{subject} has nothing to search.")
    given = {key: value for key, value in asked.items() if value is not None}
    place = samples.place(subject.place) if subject.place else None
    around, purpose = given.get("around"), given.get("purpose", "default")
    dates = given.get("dates")
    if dates is None and around is None:
        if place is None:
            raise SearchError(f"No dates for {subject.name!r}.", change=limits.DATES_HELP)
        dates = place.dates
    sensors = given.get("sensors", place.sensors if place else limits.MODALITIES)
    max_gap = given.get("max_gap", (place.max_gap if place else None) or "6 days")
    tau_days(purpose)  # refuses an unknown one
    found = limits.limits_of(
        dates, sensors, max_gap, given.get("max_cloud", 20.0), around=around, purpose=purpose
    )
    wishes: dict[str, Any] = {**Choice.of(given.get("pin"), given.get("exclude")).overrides}
    if around is not None:
        wishes["around"] = around if isinstance(around, str) else around.isoformat()
    if "purpose" in given:
        wishes["purpose"] = purpose
    return {
        "dates": f"{found.first}/{found.last}",
        "sensors": list(limits.parse_sensors(sensors)),
        "max_gap": f"{found.max_gap.total_seconds() / 3600:.6f} hours",
        "max_cloud": found.max_cloud,
        "catalog": _plain_catalog(given.get("catalog", "sample" if place else default_catalog)),
        **plain(wishes),
    }


def picked(query: Mapping[str, Any], scene: str, how: str) -> dict[str, Any]:
    """A search's arguments with one scene more, or less, that the user pinned or excluded.

    Args:
        query: As `Subject.query`.
        scene: Id of the scene.
        how: ``pin``, ``exclude``, or ``free`` for neither.

    >>> picked({"dates": "2020-06-01", "exclude": ["S2B"]}, "S2A", "pin")
    {'dates': '2020-06-01', 'pin': ['S2A'], 'exclude': ['S2B']}
    """
    ids = {option: [each for each in query.get(option, ()) if each != scene]
           for option in ("pin", "exclude")}  # fmt: skip
    if how in ids:
        ids[how].append(scene)
    rest = {key: value for key, value in query.items() if key not in ids}
    return {**rest, **{option: names for option, names in ids.items() if names}}


def _plain_catalog(catalog: Any) -> Any:
    """A catalog as the file keeps it: by name or path."""
    if isinstance(catalog, str | Path):
        return str(catalog)
    if isinstance(catalog, Mapping):
        return {str(kind): _plain_catalog(each) for kind, each in catalog.items()}
    if isinstance(catalog, Sequence):
        return [_plain_catalog(each) for each in catalog]
    raise SearchError(
        "A session keeps its searches, so a catalog must be a name or a path.",
        found=type(catalog).__name__,
        change="catalog='sample', or the path of a catalog.json",
    )


def check_rank(rank: int, subject: Subject) -> None:
    """Refuse a rank that is not in the subject's table.

    Raises:
        SearchError: Not searched, or no such rank.
    """
    if subject.kind != "aoi":
        raise SearchError(f"{subject} has no pair to choose.")
    if subject.pairs is None:
        raise SearchError(f"{subject.name!r} was not searched yet.", change="search() first")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank < len(subject.pairs):
        raise SearchError(
            f"There is no pair of rank {rank!r}.",
            found=f"{len(subject.pairs)} pairs",
            change=f"0 to {len(subject.pairs) - 1}",
        )
