"""Every place of a static catalog that can be asked about: pairs by place and date, with labels.

Nothing is listed by hand: scenes are grouped by the ground they share, each optical scene takes
the SAR scene nearest in time, a cloudy one also its twin: the clear picture that its item names
(``earthmind:clear_twin``), else the nearest of the same ground. What is known of a catalog beyond
that comes as notes, by id of the optical item; those of the embedded catalog are `scenes.CASES`. A
catalog without notes works with the defaults.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.gaps import gap_of, least_gap, middle_gap
from earthmind_lab.data.items import shares_area
from earthmind_lab.data.samples import catalog_path
from earthmind_lab.data.static import StaticCatalog, static_items
from earthmind_lab.errors import CatalogUnavailable, NoScenesFound
from earthmind_lab.evaluate.folds import Spot, places_of
from earthmind_lab.evaluate.labels import Labels, read_labels
from earthmind_lab.evaluate.legends import key_of
from earthmind_lab.evaluate.scenes import CASES
from earthmind_lab.scene import Scene, ScenePair

Training: TypeAlias = Literal["yes", "place", "no", "unknown"]
"""Whether the embedded model was trained on it: on this scene, on another one of this place;
never; nobody said."""
MAX_GAP = timedelta(days=12)
"""Between the optical and the SAR scene: one cycle of Sentinel-1."""
TWIN_GAP = timedelta(days=31)
"""Between a cloudy picture and the clear one that tells what is under the clouds."""
_DRAWN = Path(__file__).parent / "drawn" / "catalog.json"
"""What was drawn on the embedded scenes."""
CLOUDY, CLEAR = 10.0, 2.0
"""Per cent: a picture from the first on may have a twin, one up to the second may be one."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is known of a scene beyond its item."""

    name: str = ""
    """Short; empty = the id."""
    training: Training = "unknown"
    sar: str | None = None
    """Id of the SAR item that belongs to it; None = the nearest in time."""
    clear: str | None = None
    """Id of its clear twin; None = as its item says, else as found."""
    doubted: tuple[str, ...] = ()
    """Classes of a label map that the picture visibly contradicts: unknown."""
    absent: tuple[str, ...] = ()
    """Classes that aren't there: pixels where an index says so (shadow on snow) are unknown."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north to look at; None = the middle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A pair, or one scene, with all that is known of its ground."""

    name: str
    place: str
    pair: ScenePair
    clear: Scene | None = None
    """The twin that shows the ground under its clouds."""
    labels: tuple[Labels, ...] = ()
    note: Note = field(default_factory=Note)
    training: Training = "unknown"

    @property
    def footprint(self) -> object:
        """Ground that all its scenes share, lon/lat."""
        ground = self.pair.scenes[0].footprint
        for scene in (*self.pair.scenes[1:], *((self.clear,) if self.clear else ())):
            ground = ground.intersection(scene.footprint)
        return ground


def known_notes() -> dict[str, Note]:
    """Of the embedded catalog, from the list that training uses, too."""
    words: dict[str, Training] = {"train": "yes", "test": "no"}
    return {
        case.optical: Note(
            name=case.name, training=words[case.split], sar=case.sar, clear=case.truth,
            doubted=tuple(filter(None, map(key_of, case.doubted))), bbox=case.bbox,
            absent=tuple(filter(None, map(key_of, case.absent))),
        )
        for case in CASES
        if case.optical is not None
    }  # fmt: skip


def walk(
    catalog: str | Path = "sample",
    labels: str | None = None,
    *,
    places: Collection[str] | None = None,
    notes: Mapping[str, Note] | None = None,
    max_gap: timedelta = MAX_GAP,
) -> list[Site]:
    """Every site of a catalog, by place and time.

    Args:
        catalog: ``sample``, or the path of a static ``catalog.json`` or its folder.
        labels: Id of the collection that holds the labels; None = every item with a legend.
        places: Names of the places wanted; None = all.
        notes: By id of the optical item; None = `known_notes` for ``sample``, else none.
        max_gap: Longest gap of a pair without a note; beyond, the optical scene stands alone.

    Raises:
        CatalogUnavailable: It can't be read, or isn't a catalog of files.
        NoScenesFound: It holds no scene, or no such place.
        SearchError: The collection of labels holds none.
    """
    opened = open_catalog(catalog)
    if not isinstance(opened, StaticCatalog) or opened.name.startswith("http"):
        raise CatalogUnavailable(
            f"The catalog {opened.name!r} is not one of files on this machine.",
            change="a catalog.json on disk: an evaluation looks at every scene that there is",
        )
    embedded = opened.name == "sample"
    path = catalog_path() if embedded else Path(opened.name)
    items = static_items(path, [])
    held = read_labels(items + static_items(_DRAWN, []) if embedded else items, labels)
    scenes = opened.search()
    if not scenes:
        raise NoScenesFound("The catalog holds no scene.", found=str(path))
    notes = notes if notes is not None else known_notes() if embedded else {}
    ids = [scene.id for scene in scenes]
    spots = [
        Spot(
            # One id in two collections is two scenes.
            id=scene.id if ids.count(scene.id) == 1 else f"{scene.id} ({scene.sensor}, {number})",
            footprint=scene.footprint,
            items=(scene.id,),
            name=_named(scene),
        )
        for number, scene in enumerate(scenes)
    ]
    where = dict(zip((id(scene) for scene in scenes), places_of(spots), strict=True))
    sites = [_site(s, scenes, held, notes, where, max_gap, opened.name) for s in scenes
             if s.modality == "optical"]  # fmt: skip
    used = {site.pair.sar.id for site in sites if site.pair.sar}
    alone = (s for s in scenes if s.modality == "sar" and s.id not in used)
    sites += [_alone(s, held, where[id(s)], opened.name) for s in alone]
    found = _trained(sorted(sites, key=lambda site: (site.place, site.pair.scenes[0].start)))
    missing = set(places or ()) - {site.place for site in found}
    if missing:
        raise NoScenesFound(
            f"The catalog holds no place {', '.join(sorted(missing))!r}.",
            found=", ".join(sorted({site.place for site in found})),
        )
    return [site for site in found if places is None or site.place in places]


def _named(scene: Scene) -> str:
    return _said(scene, "earthmind:place")


def _said(scene: Scene, key: str) -> str:
    """A property of the item, as text; empty = it doesn't say."""
    properties = scene.items[0].get("properties") if scene.items else None
    return str((properties or {}).get(key) or "")


def _site(
    optical: Scene, scenes: Sequence[Scene], held: Sequence[Labels], notes: Mapping[str, Note],
    place: Mapping[int, str], max_gap: timedelta, catalog: str,
) -> Site:  # fmt: skip
    note = notes.get(optical.id, Note())
    near = [s for s in scenes if place[id(s)] == place[id(optical)] and s is not optical]
    near = [s for s in near if shares_area(s.footprint, optical.footprint)]
    radar = [s for s in near if s.modality == "sar"]
    if note.sar is not None:
        sar = next((s for s in radar if s.id == note.sar), None)
    else:
        radar = [s for s in radar if least_gap(optical, s) <= max_gap]
        sar = min(radar, key=lambda s: (middle_gap(gap_of(optical, s)), s.id), default=None)
    twin = _twin(optical, near, note)
    # What was drawn on the clear picture is true under the clouds, too.
    shown = (optical, twin) if twin is not None else (optical,)
    labels = [each for each in held if any(_speaks_of(each, scene) for scene in shown)]
    return Site(
        name=note.name or optical.id,
        place=place[id(optical)],
        pair=_pair(optical, sar, catalog),
        clear=twin,
        labels=tuple(labels),
        note=note,
        training=note.training,
    )


def _alone(sar: Scene, held: Sequence[Labels], place: str, catalog: str) -> Site:
    """A SAR scene without an optical one near: only labels can say what is there."""
    labels = tuple(each for each in held if _speaks_of(each, sar))
    return Site(name=sar.id, place=place, pair=_pair(None, sar, catalog), labels=labels)


def _pair(optical: Scene | None, sar: Scene | None, catalog: str) -> ScenePair:
    both = optical is not None and sar is not None
    return ScenePair(
        optical=optical, sar=sar, gap=gap_of(optical, sar) if both else None,  # type: ignore[arg-type]
        overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}, catalog=catalog,
    )  # fmt: skip


def _speaks_of(labels: Labels, scene: Scene) -> bool:
    return labels.scene in ("", scene.id) and shares_area(labels.footprint, scene.footprint)


def _twin(optical: Scene, near: Sequence[Scene], note: Note) -> Scene | None:
    others = [s for s in near if s.modality == "optical"]
    named = note.clear or _said(optical, "earthmind:clear_twin")
    if named:
        return next((s for s in others if s.id == named), None)
    if optical.cloud_cover is None or optical.cloud_cover < CLOUDY:
        return None
    clear = [s for s in others if s.cloud_cover is not None and s.cloud_cover <= CLEAR]
    clear = [s for s in clear if least_gap(optical, s) <= TWIN_GAP]
    return min(clear, key=lambda s: (middle_gap(gap_of(optical, s)), s.id), default=None)


def _trained(sites: list[Site]) -> list[Site]:
    """Tell scenes without a note from what is known of others of their place."""
    from dataclasses import replace

    known = {site.training for site in sites} - {"unknown"}
    if not known:
        return sites
    found = []
    for site in sites:
        mates = {other.training for other in sites if other.place == site.place}
        guess: Training = "place" if "yes" in mates else "no"
        found.append(site if site.training != "unknown" else replace(site, training=guess))
    return found
