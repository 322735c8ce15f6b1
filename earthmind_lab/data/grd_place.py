"""Where the pixels of a Sentinel-1 GRD product lie: its tie points, and the way back.

A GRD raster is in radar geometry. Some hundred tie points, some 10 x 20 km apart, give the place
of an image line and pixel on the map. Between them the geometry of one cell is bilinear in a
metric CRS, which is off by under 0.2 m where the ground is even. A polynomial over the whole
scene is not: the tie points follow the mean height of the ground along the track, and a cubic
misses them by more than 100 m in a scene of mountains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.raster import Raster
from earthmind_lab.errors import GridMismatch, NotTerrainCorrected

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Floats = NDArray[np.float64]

STEPS = 30
"""Of Newton's method; the bends from cell to cell are slight, so four do as a rule."""
NEAR_PX = 1e-4
"""A place found to this share of a pixel is found."""
SAME_DEGREES = 1e-5
"""File and annotation name one tie point when they differ by less, which is a metre."""
EVEN_M = 1.0
"""Heights along a line of tie points that differ by less are one mean height."""
MESH = 9
"""Points a side at which an area is looked up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TiePoints:
    """A regular grid of image positions with their places."""

    lines: Floats
    """(n,) image lines, rising; 0 is the centre of the first."""
    pixels: Floats
    """(m,) image pixels, rising; 0 is the centre of the first."""
    x: Floats
    """(n, m) longitude, or easting in `crs`."""
    y: Floats
    """(n, m) latitude, or northing in `crs`."""
    height: Floats
    """(n, m) metres."""
    incidence: Floats | None = None
    """(n, m) degrees; None = not given."""
    crs: str = "EPSG:4326"

    @classmethod
    def of(
        cls, rows: Iterable[Sequence[float]], ref: AssetRef, source: Raster, crs: str = "EPSG:4326"
    ) -> TiePoints:
        """Tie points in any order.

        Args:
            rows: Line, pixel, x, y, height and, where known, incidence of each.
            ref: The raster's asset, for messages.
            source: The raster that they are of.
            crs: Of x and y.

        Raises:
            GridMismatch: They form no grid, or not one over this raster.
        """
        table = np.array(list(rows), dtype=np.float64)
        if table.size == 0 or not np.isfinite(table).all():
            raise _no_grid(ref, "no tie points with places and heights")
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        lines, pixels = np.unique(table[:, 0]), np.unique(table[:, 1])
        shape = (len(lines), len(pixels))
        mesh = np.stack(np.meshgrid(lines, pixels, indexing="ij"), axis=-1).reshape(-1, 2)
        if min(shape) < 2 or not np.array_equal(mesh, table[:, :2]):
            raise _no_grid(ref, f"{len(table)} tie points that form no grid")
        ends = (*lines[[0, -1]], *pixels[[0, -1]])
        whole = (0, source.height - 1, 0, source.width - 1)
        if any(abs(end - edge) > 1.5 for end, edge in zip(ends, whole, strict=True)):
            found = "tie points from line {:g} to {:g} and pixel {:g} to {:g}".format(*ends)
            raise _no_grid(ref, f"{found} of {source.height} x {source.width}")
        x, y, height, *rest = (column.reshape(shape) for column in table[:, 2:].T)
        incidence = rest[0] if rest else None
        return cls(
            lines=lines, pixels=pixels, x=x, y=y, height=height, incidence=incidence, crs=crs
        )

    @classmethod
    def of_raster(cls, ref: AssetRef, source: Raster) -> TiePoints | None:
        """The ground control points in the file; None where it has none.

        The products' files say that a point's position is a pixel's corner and write the sample
        numbers of the annotation, which count centres. Files that say Point mean centres, too,
        but GDAL moves those by half a pixel into its own count from the corner.
        """
        points, crs = source.gcps
        if not points:
            return None
        half = 0.5 if source.tags.get("AREA_OR_POINT") == "Point" else 0.0
        rows = [(p.row - half, p.col - half, p.x, p.y, np.nan if p.z is None else p.z)
                for p in points]  # fmt: skip
        return cls.of(rows, ref, source, str(crs or "EPSG:4326"))

    def check_same(self, other: TiePoints, ref: AssetRef) -> None:
        """Refuse an annotation that places the raster elsewhere than the file itself does.

        Raises:
            GridMismatch: It does.
        """
        same = self.x.shape == other.x.shape and self.crs == other.crs
        apart = np.inf if not same else np.abs(
            np.stack([(self.x - other.x + 180) % 360 - 180, self.y - other.y])
        ).max()  # fmt: skip
        if apart > SAME_DEGREES:
            raise GridMismatch(
                f"The tie points in {ref.name} are not those of its annotation.",
                found=f"up to {apart:g} degrees apart" if same else "other grids of points",
                change="the annotation of the same product",
            )

    def in_crs(self, crs: str) -> TiePoints:
        """The same points with their places in a metric CRS."""
        from pyproj import Transformer

        change = Transformer.from_crs(self.crs, crs, always_xy=True)
        x, y = change.transform(self.x, self.y)
        return TiePoints(**{**vars(self), "x": np.asarray(x), "y": np.asarray(y), "crs": crs})

    def spacing(self) -> float:
        """Metres of a pixel's side, from the area of the whole scene; in a metric CRS."""
        (x1, x2), (y1, y2) = ((v[-1, -1] - v[0, 0], v[-1, 0] - v[0, -1]) for v in (self.x, self.y))
        pixels = np.ptp(self.lines) * np.ptp(self.pixels)
        return float(np.sqrt(abs(x1 * y2 - x2 * y1) / 2 / pixels))

    def find(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Image lines and pixels of places in `crs`; NaN where the geometry leads nowhere.

        Newton's method on the bilinear cell that the last step led to; the cells at the edge go
        on beyond it.
        """
        line = np.full(x.shape, self.lines.mean())
        pixel = np.full(x.shape, self.pixels.mean())
        error = np.full(x.shape, np.inf)
        with np.errstate(all="ignore"):
            for _ in range(STEPS):
                cells = self._cells(line, pixel)
                dx, dy = x - _mix(self.x, *cells), y - _mix(self.y, *cells)
                (xl, yl), (xp, yp) = self._slopes(*cells)
                area = xl * yp - yl * xp
                step_line, step_pixel = (dx * yp - dy * xp) / area, (xl * dy - yl * dx) / area
                error = np.hypot(step_line, step_pixel)
                line, pixel = line + step_line, pixel + step_pixel
                if not (error > NEAR_PX / 100).any():
                    break
        lost = ~(error < NEAR_PX)
        line[lost], pixel[lost] = np.nan, np.nan
        return line, pixel

    def values_at(self, values: Floats, line: Floats, pixel: Floats) -> Floats:
        """Something known at the points, between them."""
        return _mix(values, *self._cells(line, pixel))

    def relief(self, line: Floats, pixel: Floats) -> float:
        """How far the ground may lie above or below the height that placed it, in metres.

        Taken from the tie points of the cells that an area touches and one more all around: the
        range of their heights. The products' processor gives all points of a line one height, the
        mean of the ground along it. A mean of n parts varies √n times less than the parts do, so
        the range of such means is taken √n times, n being the cells across. An estimate: no
        elevation model is asked, and a single hill in a plain goes unseen.

        Args:
            line: Image lines of places in the area.
            pixel: Their image pixels.

        Raises:
            NotTerrainCorrected: No place of the area lies in the scene's geometry.
        """
        if not np.isfinite(line).any():
            raise NotTerrainCorrected(
                "The area can't be found in the scene's geometry.",
                found="tie points that lead nowhere",
                change="a terrain-corrected scene (collection sentinel-1-rtc)",
            )
        rows, columns = (
            slice(max(0, int(np.nanmin(cell)) - 1), int(np.nanmax(cell)) + 3)
            for cell in self._cells(line[np.isfinite(line)], pixel[np.isfinite(line)])[:2]
        )
        heights = self.height[rows, columns]
        means = bool((np.ptp(self.height, axis=1) < EVEN_M).all())
        return float(np.ptp(heights) * (np.sqrt(len(self.pixels) - 1) if means else 1.0))

    def _cells(self, line: Any, pixel: Any) -> tuple[Any, Any, Any, Any]:
        """Cell of each position, and how far it lies in the cell."""
        i = np.clip(np.searchsorted(self.lines, line, "right") - 1, 0, len(self.lines) - 2)
        j = np.clip(np.searchsorted(self.pixels, pixel, "right") - 1, 0, len(self.pixels) - 2)
        down = (line - self.lines[i]) / (self.lines[i + 1] - self.lines[i])
        across = (pixel - self.pixels[j]) / (self.pixels[j + 1] - self.pixels[j])
        return i, j, down, across

    def _slopes(self, i: Any, j: Any, down: Any, across: Any) -> tuple[Any, Any]:
        """(x, y) per line and (x, y) per pixel."""
        high, wide = self.lines[i + 1] - self.lines[i], self.pixels[j + 1] - self.pixels[j]
        per_line, per_pixel = [], []
        for v in (self.x, self.y):
            left, right = v[i + 1, j] - v[i, j], v[i + 1, j + 1] - v[i, j + 1]
            top, bottom = v[i, j + 1] - v[i, j], v[i + 1, j + 1] - v[i + 1, j]
            per_line.append((left + across * (right - left)) / high)
            per_pixel.append((top + down * (bottom - top)) / wide)
        return per_line, per_pixel


def mesh_of(grid: GeoBox) -> tuple[Floats, Floats]:
    """Places spread over a grid, its edges among them, in its CRS."""
    rows, columns = (np.linspace(0, int(side), MESH) for side in grid.shape)
    column, row = np.meshgrid(columns, rows)
    a = grid.affine
    return a.a * column + a.b * row + a.c, a.d * column + a.e * row + a.f


def _mix(v: Floats, i: Any, j: Any, down: Any, across: Any) -> Floats:
    top = v[i, j] + across * (v[i, j + 1] - v[i, j])
    bottom = v[i + 1, j] + across * (v[i + 1, j + 1] - v[i + 1, j])
    return np.asarray(top + down * (bottom - top))


def _no_grid(ref: AssetRef, found: str) -> GridMismatch:
    return GridMismatch(
        f"The raster of {ref.name} can't be placed by its tie points.",
        found=found,
        change="the product as it was published, or a terrain-corrected scene (collection "
        "sentinel-1-rtc)",
    )
