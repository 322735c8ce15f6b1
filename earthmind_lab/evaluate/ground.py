"""What is true of a site, as each source tells it: one truth per source, never mixed.

label map        agreement with a map made by others, which may be older or wrong
label list       names without pixels: only whether a class is there
hand-drawn       drawn on this picture
spectral index   thresholds on this picture: water and snow, and what dense plants rule out
clear twin       the same thresholds on a clear picture of the ground under the clouds
cloud mask       the picture's own mask: clouds only
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.affinity import scale
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.bands import stand_in
from earthmind_lab.chip import Chip
from earthmind_lab.errors import GridMismatch, LoadError
from earthmind_lab.evaluate.labels import UNKNOWN, Labels, raster_of
from earthmind_lab.evaluate.legends import CLASSES, TRANSIENT, possible
from earthmind_lab.evaluate.scenes import cloud_on
from earthmind_lab.evaluate.truth import BARE, BUILT, SNOW, WATER, indices, spectral_truth
from earthmind_lab.evaluate.walk import Site
from earthmind_lab.scene import Scene, ScenePair

Bool = NDArray[np.bool_]
PRESENT, ABSENT = 0.03, 0.004
"""Share of the ground from which a class counts as there; under the second, and with less than
the first undecided, it counts as not there. In between nothing is asked."""
SIDE_PX = 340
"""Longest side of what is looked at, in pixels: what the embedded model sees, with a margin."""
_BORDER = 0.97
"""Border pixels of two lattices that don't coincide are no data in one of them."""
_CLOUDS = CLASSES.index("clouds")
TWIN_CLOUD = 0.1
"""Share under cloud from which a clear twin speaks for the ground, and the picture no longer."""
_DENSE_NDVI = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What one source says about each pixel of a chip."""

    kind: str
    source: str
    """Id of the item that says so."""
    there: tuple[bool | None, ...]
    """Per class of `CLASSES`: whether it is there; None = not decided, so not asked."""
    yes: NDArray[np.bool_] | None = None
    """(9, H, W) True where the pixel is the class; None = the source has no pixels."""
    no: NDArray[np.bool_] | None = None
    """(9, H, W) True where it isn't."""
    edge: NDArray[np.bool_] | None = None
    """(H, W) True within a pixel of the border between two classes."""

    def known(self, index: int) -> Bool:
        """(H, W) where a class is decided."""
        assert self.yes is not None
        assert self.no is not None
        return np.asarray(self.yes[index] | self.no[index])

    def share(self, index: int) -> float | None:
        """True share of the known ground; None without pixels."""
        if self.yes is None:
            return None
        known = self.known(index).sum()
        return float(self.yes[index].sum() / known) if known else None

    @property
    def dominant(self) -> int | None:
        """The class of the largest share where it leads beyond doubt; None = it doesn't.

        More than half of the ground, or at least a quarter and 8 points more than any other could
        have. Of a list: its one class.
        """
        if self.kind == "cloud mask":
            return None
        if self.yes is None:
            sure = [index for index, there in enumerate(self.there) if there]
            open_ = [CLASSES[i] for i, there in enumerate(self.there) if there is None]
            return sure[0] if len(sure) == 1 and set(open_) <= TRANSIENT else None
        shares = self.yes.mean(axis=(1, 2))
        unknown = 1.0 - float(shares.sum())
        first = int(np.argmax(shares))
        if shares[first] > 0.5:
            return first
        rival = float(np.delete(shares, first).max()) + max(unknown, 0.0)
        return first if shares[first] >= 0.25 and shares[first] >= rival + 0.08 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Looked:
    """A site with its pixels and every truth about them."""

    site: Site
    chip: Chip
    truths: tuple[Truth, ...]
    cloud: Bool | None
    """(H, W) under cloud or shadow; None = no mask tells."""
    twin: bool
    """Clouds hide the ground, and a clear twin shows it."""


def look(site: Site, *, side_px: int = SIDE_PX, deadline: float = 120.0) -> Looked:
    """Read a site and what is known of it.

    Args:
        site: From `walk`.
        side_px: Longest side; of a larger site the middle is taken.
        deadline: Seconds for each load.

    Raises:
        LoadError: A file is missing or damaged, or the scenes share no ground.
    """
    from earthmind_lab.data.load import load_chip

    aoi = _area(site, side_px)
    chip = load_chip(site.pair, aoi, deadline=deadline)
    cloud = cloud_on(site.pair.optical, chip)
    truths = [_by_labels(labels, chip, site.note.doubted) for labels in site.labels]
    absent, seen = site.note.absent, site.pair.optical
    own = _by_spectrum(chip, cloud, "spectral index", seen.id, absent) if seen else None
    hidden = cloud is None or float(cloud[chip.inside].mean()) >= TWIN_CLOUD
    if site.clear is not None and hidden:
        twin = load_chip(_alone(site.clear, site.pair), aoi, deadline=deadline)
        if twin.grid != chip.grid:
            raise GridMismatch(f"The clear twin of {site.name} lies on another grid.")
        there = cloud_on(site.clear, twin)
        told = _by_spectrum(twin, there, "clear twin", site.clear.id, absent)
        truths.append(told if cloud is None else _unless_changed(told, own, chip.inside))
    else:
        truths.append(own)
    if cloud is not None and seen is not None:
        truths.append(_by_mask(cloud, chip.inside, seen.id))
    return Looked(
        site=site, chip=chip, truths=tuple(t for t in truths if t is not None), cloud=cloud,
        twin=site.clear is not None and hidden,
    )  # fmt: skip


def edges(classes: NDArray[np.integer[Any]]) -> Bool:
    """(H, W) True where one of the eight neighbours is another class; unknown is none.

    >>> edges(np.array([[0, 0, 0, 1], [0, 0, 0, 1]])).astype(int).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    padded = np.pad(classes, 1, mode="edge")
    height, width = classes.shape
    found = np.zeros(classes.shape, bool)
    for down in range(3):
        for right in range(3):
            near = padded[down : down + height, right : right + width]
            found |= (near != classes) & (near != UNKNOWN) & (classes != UNKNOWN)
    return found


def decided(yes: Bool, no: Bool, where: Bool) -> bool | None:
    """Whether a class is there, beyond doubt.

    Args:
        yes: (H, W) pixels that are it.
        no: (H, W) pixels that aren't.
        where: (H, W) the ground that counts.
    """
    share, rest = float(yes[where].mean()), float(no[where].mean())
    if share >= PRESENT:
        return True
    return False if rest > 1 - PRESENT and share < ABSENT else None


def _area(site: Site, side_px: int) -> AOI:
    from earthmind_lab.data.plan import plan_chip
    from earthmind_lab.grid import gsd_of

    if site.note.bbox is not None:
        return AOI.from_bbox(*site.note.bbox, name=site.name)
    ground: Any = site.footprint
    if ground.is_empty or ground.area == 0:
        raise LoadError(f"The scenes of {site.name} share no ground.")
    ground = scale(ground, _BORDER, _BORDER)
    middle = ground.centroid
    # Half the side in degrees, a little less, as a box in lon/lat is turned against the grid.
    spot = AOI(geometry=middle.buffer(0.0005), name=site.name)
    half = 0.5 * side_px * gsd_of(plan_chip(site.pair, spot).grid) * 0.95 / 111_320
    wide = half / max(np.cos(np.radians(middle.y)), 0.01)
    window = box(middle.x - wide, middle.y - half, middle.x + wide, middle.y + half)
    return AOI(geometry=ground.intersection(window), name=site.name)


def _alone(scene: Scene, pair: ScenePair) -> ScenePair:
    return ScenePair(
        optical=scene, sar=None, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={},
        catalog=pair.catalog,
    )  # fmt: skip


def _by_mask(cloud: Bool, inside: Bool, source: str) -> Truth:
    yes = np.zeros((len(CLASSES), *cloud.shape), bool)
    no = np.zeros_like(yes)
    yes[_CLOUDS], no[_CLOUDS] = cloud & inside, ~cloud & inside
    return _pixels("cloud mask", source, yes, no, inside, edges(cloud.astype(int)))


def _by_spectrum(
    chip: Chip, cloud: Bool | None, kind: str, source: str, absent: tuple[str, ...]
) -> Truth | None:
    """Water and snow, and bare or built ground that dense plants rule out."""
    infrared = stand_in("nir", chip.wavelengths)
    if infrared is None or chip.radiometry.level == "DN" or chip.valid_optical is None:
        return None
    if not {"green", "red"} <= set(chip.bands):
        return None
    names = [name for name in ("green", "red", "swir16") if name in chip.bands]
    bands = {name: chip.band(name) for name in names} | {"nir": chip.band(infrared)}
    seen = chip.valid_optical & chip.inside
    seen = seen if cloud is None else seen & ~cloud
    with np.errstate(invalid="ignore"):
        found = spectral_truth(bands, seen)
        dense = (indices(bands)["ndvi"] > _DENSE_NDVI) & seen
    yes = np.zeros((len(CLASSES), *seen.shape), bool)
    no = np.zeros_like(yes)
    for index in (WATER, SNOW):
        yes[index], no[index] = found.yes[index], found.no[index]
        if CLASSES[index] in absent:
            no[index] |= seen & ~found.yes[index]
            yes[index] = False
    for index in (BUILT, BARE):
        no[index] = dense
    water = np.where(seen, found.yes[WATER].astype(int), UNKNOWN)
    return _pixels(kind, source, yes, no, chip.inside, edges(water))


def _unless_changed(told: Truth | None, own: Truth | None, inside: Bool) -> Truth | None:
    """What a clear twin tells, but for the ground of which the picture shows the contrary.

    Between its clouds a picture may show that the ground has changed since, such as a flood plain
    under water: what is so there on the day of the picture is left open.
    """
    if told is None or own is None:
        return told
    assert told.yes is not None
    assert told.no is not None
    assert told.edge is not None
    assert own.yes is not None
    assert own.no is not None
    changed = (told.yes & own.no) | (told.no & own.yes)
    yes, no = told.yes & ~changed, told.no & ~changed
    return _pixels(told.kind, told.source, yes, no, inside, told.edge)


def _by_labels(labels: Labels, chip: Chip, doubted: tuple[str, ...]) -> Truth | None:
    if labels.kind == "label list":
        return Truth(kind=labels.kind, source=labels.id, there=_listed(labels.names))
    classes = np.where(chip.inside, raster_of(labels, chip.grid), UNKNOWN)
    if (classes == UNKNOWN).all():
        return None
    named = {name for name in labels.legend.values() if name} or set(labels.names)
    yes = np.stack([classes == index for index in range(len(CLASSES))])
    no = np.stack([
        (classes != UNKNOWN) & (classes != index) & (name in named)
        for index, name in enumerate(CLASSES)
    ])  # fmt: skip
    for index, name in enumerate(CLASSES):
        if labels.kind == "label map" and name in TRANSIENT:
            no[index] = False
        if name in doubted:
            yes[index] = no[index] = False
    return _pixels(labels.kind, labels.id, yes, no, chip.inside, edges(classes))


def _listed(names: tuple[str, ...]) -> tuple[bool | None, ...]:
    """A list names what is there; what none of its names could hold is not there."""
    sure = {found for name in names for found in possible(name) if len(possible(name)) == 1}
    maybe = {found for name in names for found in possible(name)}
    return tuple(
        True if name in sure else None if name in maybe or name in TRANSIENT else False
        for name in CLASSES
    )


def _pixels(kind: str, source: str, yes: Bool, no: Bool, inside: Bool, edge: Bool) -> Truth:
    there = tuple(decided(yes[i], no[i], inside) for i in range(len(CLASSES)))
    return Truth(kind=kind, source=source, there=there, yes=yes, no=no, edge=edge)
