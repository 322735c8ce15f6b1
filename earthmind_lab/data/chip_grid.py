"""Which grid a chip takes: a cut of the optical scene's own lattice, else the AOI's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from earthmind_lab.aoi import AOI
from earthmind_lab.data.agreement import check_agreement
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.files import Reader
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import Lattice
from earthmind_lab.errors import GridMismatch, NotTerrainCorrected
from earthmind_lab.grid import snap_to
from earthmind_lab.scene import Scene, ScenePair

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

BANDS = ("blue", "green", "red", "nir", "nir08", "swir16", "swir22")
"""Optical bands loaded by default, where the scene has them; `nir08` only without `nir`."""
REFERENCE_BANDS = ("red", "green", "blue", "nir")
"""The finest bands of a multispectral scene; the first one there gives its lattice."""
DEFAULT_GSD = 10.0
"""Sentinel-1's and Sentinel-2's own, for grids that no scene gives."""
LATTICE_PX = 1e-3
"""How far, in pixels, a grid may be off a lattice to count as part of it."""


def chip_grid(pair: ScenePair, aoi: AOI, gsd: float | None, reader: Reader) -> GeoBox:
    """A cut of the optical scene's lattice at its own GSD, else `AOI.grid`."""
    if pair.optical is None:
        return aoi.grid(DEFAULT_GSD if gsd is None else gsd)
    grid, native = own_grid(pair.optical, reader)
    if grid is not None and (gsd is None or math.isclose(gsd, native or 0.0, rel_tol=1e-6)):
        return snap_to(grid, aoi.geometry)
    return aoi.grid(native or DEFAULT_GSD if gsd is None else gsd)


def lattice_of(pair: ScenePair, grid: GeoBox, reader: Reader) -> Lattice:
    """The lattice of a grid, anchored where all of its chips are: at the scene's corner."""
    if pair.optical is not None:
        own, _ = own_grid(pair.optical, reader)
        if own is not None and own.crs == grid.crs and math.isclose(own.affine.a, grid.affine.a):
            steps = (
                (grid.affine.c - own.affine.c) / own.affine.a,
                (grid.affine.f - own.affine.f) / own.affine.e,
            )
            if all(abs(step - round(step)) < LATTICE_PX for step in steps):
                return Lattice.of(grid, (own.affine.c, own.affine.f))
    return Lattice.of(grid)


def own_grid(scene: Scene, reader: Reader) -> tuple[GeoBox | None, float | None]:
    """The scene's own grid where it is an upright UTM one; and its GSD where it is known."""
    from odc.geo.geobox import GeoBox
    from pyproj import CRS

    ref = _reference(scene)
    with reader.open(ref) as source:
        check_place(source, ref, scene)
        grid = GeoBox.from_rio(source.source)
    affine = grid.affine
    upright = not affine.b and not affine.d and affine.a > 0 > affine.e
    square = math.isclose(affine.a, -affine.e, rel_tol=1e-6)
    crs = CRS.from_user_input(str(grid.crs))
    if upright and square and (crs.utm_zone or crs.to_epsg() in (3413, 3031)):
        code = crs.to_epsg()  # the file's WKT names the same CRS in a page of text
        return GeoBox(grid.shape, affine, f"EPSG:{code}" if code else grid.crs), affine.a
    declared = ref.asset.get("gsd", ref.properties.get("gsd"))
    return None, float(declared) if isinstance(declared, int | float) and declared > 0 else None


def check_place(source: Raster, ref: AssetRef, scene: Scene) -> None:
    """Refuse rasters that aren't on the map, or not where their item says."""
    if source.crs is not None:
        check_agreement(source, ref)
        return
    where = "only ground control points" if source.has_gcps else "no CRS"
    if scene.modality == "sar":
        raise NotTerrainCorrected(
            f"The raster of {ref.name} is in radar geometry, not on the map.",
            found=where,
            change="a terrain-corrected scene, such as of the collection sentinel-1-rtc",
        )
    raise GridMismatch(
        f"The raster of {ref.name} has no place on the Earth.",
        found=where,
        change="a georeferenced file",
    )


def _reference(scene: Scene) -> AssetRef:
    """The asset whose lattice and GSD are the scene's own."""
    held = [band for band in (*REFERENCE_BANDS, *BANDS) if band in scene.assets]
    return assets_of(scene, held[0] if held else min(scene.assets))[0]
