"""From the options of a command line to what they mean: area, limits, pair, chip."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from earthmind_lab import cli_options as options
from earthmind_lab.errors import PromptError, SearchError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from earthmind_lab.aoi import AOI
    from earthmind_lab.chip import Chip
    from earthmind_lab.scene import ScenePair

T = TypeVar("T")


def aoi_of(given: argparse.Namespace) -> AOI:
    """The AOI, which most verbs need."""
    from earthmind_lab.aoi import AOI
    from earthmind_lab.errors import AOIError

    if given.aoi is None:
        raise AOIError("No AOI was given.", change="--aoi W,S,E,N or --aoi FILE")
    return AOI.from_any(given.aoi)


def regions_of(given: argparse.Namespace) -> list[BaseGeometry]:
    """The places to ask about, in lon/lat."""
    from earthmind_lab.aoi import AOI

    return [AOI.from_any(text).geometry for text in given.region or ()]


def limits_of(given: argparse.Namespace) -> dict[str, Any]:
    """What a search is limited by."""
    if given.dates is None and given.around is None:
        raise SearchError("No dates were given.", change="--dates 2019-09-15/2019-09-20")
    wishes = {"around": given.around, "pin": given.pin, "exclude": given.exclude}
    return {
        "dates": given.dates,
        "sensors": given.sensors,
        "max_gap": given.max_gap,
        "max_cloud": given.max_cloud,
        "purpose": given.purpose,
        **{name: wish for name, wish in wishes.items() if wish is not None},
    }


def pairs_of(given: argparse.Namespace, aoi: AOI) -> list[ScenePair]:
    """The ranked pairs."""
    from earthmind_lab.data.search import search_pairs

    return search_pairs(aoi, catalog=given.catalog, deadline=given.deadline, **limits_of(given))


def pair_of(given: argparse.Namespace, aoi: AOI) -> ScenePair:
    """The pair of ``--pair``."""
    return at_rank(pairs_of(given, aoi), given.pair, "pair")


def at_rank(held: Sequence[T], rank: int, what: str) -> T:
    """One of several by its rank, from 1."""
    if not 1 <= rank <= len(held):
        raise SearchError(
            f"There is no {what} number {rank}.",
            found=f"{len(held)} {what}s",
            change=f"--pair 1 to --pair {len(held)}",
        )
    return held[rank - 1]


def bundled_chips(path: str | None) -> tuple[Chip, ...]:
    """The chips of a bundle."""
    from earthmind_lab.data.bundle import open_bundle

    return () if path is None else open_bundle(path).chips


def subject_of(given: argparse.Namespace) -> tuple[Any, ScenePair | None]:
    """What is asked about, and its pair."""
    if given.image is not None:
        if given.aoi is not None or given.bundle is not None:
            raise PromptError("A picture has no AOI.", change="only --image, --aoi or --bundle")
        if given.optical is not None or given.sar is not None:
            change = "either --image or --optical and --sar"
            raise PromptError("A plain picture has no place beside other files.", change=change)
        return given.image, None
    if given.bundle is not None:
        if given.aoi is not None:
            raise PromptError("A bundle has its own AOI.", change="either --bundle or --aoi")
        chip = at_rank(bundled_chips(given.bundle), given.pair, "chip")
        return chip, chip.pair
    from earthmind_lab.data.load import load_chip

    own = own_chip(given)
    if own is not None:
        return own, own.pair
    aoi = aoi_of(given)
    pair = pair_of(given, aoi)
    return load_chip(pair, aoi, gsd=given.gsd, deadline=given.deadline), pair


def own_chip(given: argparse.Namespace) -> Chip | None:
    """The chip of own files; None where a catalog is asked for scenes."""
    words = {name: getattr(given, name) for name in options.OWN}
    if all(value is None for value in words.values()) and given.time is None:
        return None
    from earthmind_lab.data.own_files import open_chip

    if given.dates is not None or given.catalog is not None:
        raise SearchError(
            "Own files aren't searched for in a catalog.",
            change="--time for when they were taken, without --dates and --catalog",
        )
    times: Any = given.time
    if times and (len(times) > 1 or times[0].startswith(("optical=", "sar="))):
        times = dict(text.partition("=")[::2] for text in times)
    elif times:
        (times,) = times
    return open_chip(aoi=given.aoi, gsd=given.gsd, datetime=times, deadline=given.deadline, **words)
