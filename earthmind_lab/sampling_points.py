"""From mapped area to area: a stratified random sample, labelled by somebody, corrects the map.

    points = sample_points(answer, 300)       # where to look
    save_points(points, "points.gpkg")        # label them there, such as in QGIS, or here
    points["reference"] = ...                 # what is really there, one word each
    estimate_area(points)                     # hectares with standard error and 95 % interval

A mapped area counts pixels and inherits the map's mistakes. The sample tells how often the map is
wrong in each of its classes, and that gives an area with an honest interval, after

    P. Olofsson, G. M. Foody, M. Herold, S. V. Stehman, C. E. Woodcock, M. A. Wulder (2014): Good
    practices for estimating area and assessing accuracy of land change. Remote Sensing of
    Environment 148, 42-57, doi:10.1016/j.rse.2014.02.015 (equations 1 to 11, and section 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.cogs import mask_bands
from earthmind_lab.errors import EarthMindError
from earthmind_lab.feature_files import write_gpkg
from earthmind_lab.grid import move_points, pixel_areas
from earthmind_lab.whole_file import whole_file

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox
    from pandas import DataFrame

    from earthmind_lab.answer import Answer

BACKGROUND = "background"
"""The stratum of the AOI in which nothing is marked."""
COLUMNS = ("stratum", "lon", "lat", "reference", "stratum_ha")
"""Of the points: `stratum` is the map's class; `reference` is empty and waits for a label;
`stratum_ha` is the mapped area of the whole stratum, so that a file of points is enough."""
LEAST = 50
"""Points in a rare stratum: the paper advises 50 to 100 (section 5.1.2)."""
Z95 = 1.96
"""Standard errors in half a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class ClassEstimate:
    """One class of the reference."""

    label: str
    mapped_ha: float
    """Area of its stratum, hectares; 0 where the map doesn't have the class."""
    area_ha: float
    """Error-adjusted area, hectares."""
    standard_error_ha: float
    interval_ha: tuple[float, float]
    """95 %: area plus and minus 1.96 standard errors; not cut at 0."""
    users: float | None
    """User's accuracy: share of the stratum that is the class; None where it is no stratum."""
    users_error: float | None
    """Its standard error."""
    producers: float | None
    """Producer's accuracy: share of the class that the map has found; None where it has no area."""
    producers_error: float | None


@dataclass(frozen=True, kw_only=True)
class AreaEstimate:
    """What a labelled sample says about a map."""

    classes: tuple[ClassEstimate, ...]
    """Those of the strata first, in the order of the points."""
    overall: float
    """Overall accuracy: share of the area whose class is right."""
    overall_error: float
    """Its standard error."""
    counts: Mapping[str, Mapping[str, int]]
    """Error matrix: stratum to reference to number of points."""

    def __getitem__(self, label: str) -> ClassEstimate:
        return next(each for each in self.classes if each.label == label)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def sample_points(answer: Answer, n: int, seed: int = 0, *, least: int = LEAST) -> GeoDataFrame:
    """Random points in each class of an answer's mask and in the rest of the AOI.

    Every pixel of a stratum is drawn with a chance in proportion to its ground area, and at most
    once; the point is its centre.

    Args:
        answer: About a chip.
        n: Points in all.
        seed: The same seed draws the same points.
        least: Points for a stratum whose proportional share is smaller; the others share the
            rest in proportion to their areas.

    Returns:
        `COLUMNS` and a point in EPSG:4326 each, shuffled: whoever labels should not know the map.

    Raises:
        EarthMindError: A plain picture, or too few points for the strata.
        PromptError: The answer is about two dates.
    """
    import pandas as pd
    from geopandas import GeoDataFrame, points_from_xy

    bands, labels = mask_bands(answer)
    assert answer.grid is not None
    classes, names = bands[0], {0: BACKGROUND, **dict(enumerate(labels, start=1))}
    areas = np.broadcast_to(_per_pixel(pixel_areas(answer.grid)), classes.shape)
    held = {number: classes == number for number in names if (classes == number).any()}
    hectares = {number: float(areas[here].sum()) / 1e4 for number, here in held.items()}
    sizes = allocate(hectares, n, least=least, most={k: int(v.sum()) for k, v in held.items()})
    dice, parts = np.random.default_rng(seed), []
    for number, size in sizes.items():
        rows, columns = np.nonzero(held[number])
        weights = areas[rows, columns]
        drawn = dice.choice(len(rows), size, replace=False, p=weights / weights.sum())
        lon, lat = _centres(answer.grid, rows[drawn], columns[drawn])
        parts.append(
            pd.DataFrame(
                {"stratum": names[number], "lon": lon, "lat": lat, "reference": "",
                 "stratum_ha": hectares[number]}
            )
        )  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    table = table.iloc[dice.permutation(len(table))].reset_index(drop=True)
    return GeoDataFrame(table, geometry=points_from_xy(table.lon, table.lat), crs="EPSG:4326")


def save_points(points: GeoDataFrame, path: str | Path) -> Path:
    """Write points to label; the file appears complete or not at all.

    Args:
        points: What `sample_points` gave.
        path: Ends in .geojson, .gpkg or .parquet.

    Raises:
        EarthMindError: Another ending, or the file can't be written.
    """
    path, ending = Path(path), Path(path).suffix.lower()
    if ending not in (".geojson", ".gpkg", ".parquet"):
        raise EarthMindError(
            f"Points can't be saved as {path.name!r}.",
            found=path.suffix or "no file ending",
            change="a name ending in .geojson, .gpkg, .parquet",
        )
    with whole_file(path) as draft:
        if ending == ".gpkg":
            write_gpkg(points, draft, about={}, layer="points", kind="Point")
        elif ending == ".parquet":
            points.to_parquet(draft)
        else:
            draft.write_text(points.to_json(drop_id=True), encoding="utf-8")
    return path


def allocate(
    areas: Mapping[Any, float], n: int, *, least: int = LEAST, most: Mapping[Any, int] | None = None
) -> dict[Any, int]:
    """How many points each stratum gets: `least` in rare ones, the rest in proportion to area.

    Args:
        areas: Of the strata, in any unit.
        n: Points in all.
        least: For a stratum whose proportional share is smaller.
        most: Pixels of each stratum: no more points than these; None = no limit.

    Raises:
        EarthMindError: Fewer than two points for a stratum, or more points than pixels.

    >>> allocate({"loss": 0.02, "gain": 0.015, "forest": 0.32, "other": 0.645}, 640, least=75)
    {'loss': 75, 'gain': 75, 'forest': 162, 'other': 328}
    """
    if n < 2 * len(areas):
        raise EarthMindError(
            f"{n} points are too few for {len(areas)} strata: a variance needs two in each.",
            change=f"n={max(2, least) * len(areas)}",
        )
    limit = {name: n if most is None else most[name] for name in areas}
    if n > sum(limit.values()) or min(limit.values()) < 2:
        raise EarthMindError(
            "There are fewer pixels than points, or a stratum of one pixel.",
            found=", ".join(f"{size} pixels" for size in limit.values()),
            change="fewer points, or a larger AOI",
        )
    floor = max(2, min(least, n // len(areas)))
    rare: dict[Any, int] = {}
    while True:
        rest = {name: area for name, area in areas.items() if name not in rare}
        shares = _rounded(rest, n - sum(rare.values()))
        below = [name for name, share in shares.items() if share < floor]
        rare |= dict.fromkeys(below, floor)
        if not below:
            break
    sizes = {name: min(rare.get(name, shares.get(name, 0)), limit[name]) for name in areas}
    # What rounding or a stratum of few pixels has left over goes where most pixels are left.
    while (left := n - sum(sizes.values())) > 0:
        roomy = max(areas, key=lambda name: limit[name] - sizes[name])
        sizes[roomy] += min(left, limit[roomy] - sizes[roomy])
    return sizes


def estimate_area(points: DataFrame) -> AreaEstimate:
    """Error-adjusted areas and accuracies from labelled points.

    Args:
        points: What `sample_points` gave, or a table read from a file of it, with a label in
            every `reference`: the name of a stratum, or any other class.

    Raises:
        EarthMindError: A column is missing, a point has no label, a stratum has fewer than two
            points, or its points disagree about its area.
    """
    hectares, counts = _counted(points)
    labels = list(dict.fromkeys([*hectares, *(each for row in counts.values() for each in row)]))
    n = np.array([[counts[name].get(label, 0) for label in labels] for name in hectares], float)
    area = np.array(list(hectares.values()))
    total, per_stratum = float(area.sum()), n.sum(axis=1)
    weight = area / total  # W_i
    share = n / per_stratum[:, None]  # n_ij / n_i.
    p = weight[:, None] * share  # p_ij, equation 4
    column = p.sum(axis=0)  # p_.j, equation 9
    spread = share * (1 - share) / (per_stratum - 1)[:, None]  # variance of n_ij / n_i.
    column_error = np.sqrt((weight[:, None] ** 2 * spread).sum(axis=0))  # equation 10
    right = np.arange(len(hectares))  # the strata are the first labels, in the same order
    users, overall = share[right, right], float(p[right, right].sum())
    overall_error = math.sqrt(float((weight**2 * spread[right, right]).sum()))  # equation 5
    classes = []
    for j, label in enumerate(labels):
        mapped = j < len(hectares)
        half = Z95 * total * column_error[j]
        found = float(p[j, j] / column[j]) if mapped and column[j] > 0 else None
        classes.append(
            ClassEstimate(
                label=label,
                mapped_ha=float(area[j]) if mapped else 0.0,
                area_ha=float(total * column[j]),  # equation 11
                standard_error_ha=float(total * column_error[j]),
                interval_ha=(float(total * column[j] - half), float(total * column[j] + half)),
                users=float(users[j]) if mapped else None,
                users_error=math.sqrt(spread[j, j]) if mapped else None,  # equation 6
                producers=found,
                producers_error=None if found is None else _producers_error(
                    j, found, area, spread, float(total * column[j])
                ),
            )
        )  # fmt: skip
    return AreaEstimate(
        classes=tuple(classes), overall=overall, overall_error=overall_error, counts=counts
    )


def _producers_error(
    j: int, found: float, area: NDArray[np.float64], spread: NDArray[np.float64], reference: float
) -> float:
    """Standard error of the producer's accuracy of class j, equation 7; areas for pixels."""
    own = area[j] ** 2 * (1 - found) ** 2 * spread[j, j]
    others = np.delete(area**2 * spread[:, j], j).sum()
    return math.sqrt(float(own + found**2 * others)) / reference


def _counted(points: DataFrame) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
    """Area of each stratum, and its points by reference label."""
    missing = {"stratum", "reference", "stratum_ha"} - set(points.columns)
    if missing or not len(points):
        raise EarthMindError(
            "These are no points of a stratified sample.",
            found=f"no column {', '.join(sorted(missing))}" if missing else "no point",
            change="sample_points(answer, 300), labelled in the column reference",
        )
    labelled = points["reference"].notna() & (points["reference"].astype(str).str.strip() != "")
    if not labelled.all():
        raise EarthMindError(
            "Not every point has a label: left out, they would bend the result unseen.",
            found=f"{int((~labelled).sum())} of {len(points)} without one",
            change="label them in the column reference; what can't be seen needs a class, too",
        )
    hectares: dict[str, float] = {}
    counts: dict[str, dict[str, int]] = {}
    for name, part in points.groupby("stratum", sort=False):
        sizes = part["stratum_ha"].unique()
        if len(part) < 2 or len(sizes) != 1 or not sizes[0] > 0:
            raise EarthMindError(
                f"The stratum {name!r} needs two points or more and one area.",
                found=f"{len(part)} points, areas {', '.join(map(str, sizes))} ha",
            )
        hectares[str(name)] = float(sizes[0])
        found = part["reference"].astype(str).str.strip().value_counts()
        counts[str(name)] = {str(label): int(count) for label, count in sorted(found.items())}
    return hectares, counts


def _rounded(areas: Mapping[Any, float], n: int) -> dict[Any, int]:
    """Whole numbers in proportion to some areas that add up to n: largest remainders."""
    total = sum(areas.values())
    exact = {name: n * area / total for name, area in areas.items()}
    sizes = {name: math.floor(share) for name, share in exact.items()}
    by_rest = sorted(exact, key=lambda name: sizes[name] - exact[name])
    for name in by_rest[: n - sum(sizes.values())]:
        sizes[name] += 1
    return sizes


def _centres(
    grid: GeoBox, rows: NDArray[np.int_], columns: NDArray[np.int_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the centres of some pixels."""
    a, b, c, d, e, f = tuple(grid.affine)[:6]
    x, y = columns + 0.5, rows + 0.5
    return move_points(a * x + b * y + c, d * x + e * y + f, str(grid.crs), "EPSG:4326")


def _per_pixel(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    return areas[:, None] if areas.ndim == 1 else areas
