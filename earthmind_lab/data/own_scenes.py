"""From a file or an array of the user's own to a scene: place, bands, numbers and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from earthmind_lab.aoi import AOI
from earthmind_lab.data.files import Reader
from earthmind_lab.data.items import scenes_of
from earthmind_lab.data.kept_arrays import use_array
from earthmind_lab.data.own_arrays import is_array, store_array
from earthmind_lab.data.own_bands import GivenBand, NamedBands, name_bands, parse_bands
from earthmind_lab.data.own_header import absolute, read_header
from earthmind_lab.data.own_items import Declared, item_of, times_of
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import Scene

if TYPE_CHECKING:
    import xarray

Source: TypeAlias = "str | Path | Mapping[str, str | Path] | xarray.DataArray | xarray.Dataset"
"""A file with any number of bands, {band: file}, or an array with a georeference."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnScene:
    """One modality of the user's own."""

    scene: Scene
    files: tuple[NamedBands, ...]
    source: str | Mapping[str, str]
    """Absolute path, or {band: absolute path}: what opens it again."""
    sha256: str | None
    """Of an array that was in memory; None for files."""

    @property
    def gsd(self) -> float:
        """Pixel size of the file in metres, to two digits."""
        (item,) = self.scene.items
        asset = next(iter(item["assets"].values()))
        return float(asset["gsd"])


def own_scene(
    modality: str,
    source: Source,
    given: Sequence[GivenBand],
    declared: Declared,
    *,
    time: Any,
    aoi: AOI | None,
    gsd: float | None,
    shared: bool,
    reader: Reader,
) -> OwnScene:
    """One modality as a scene.

    Args:
        modality: ``optical`` or ``sar``.
        source: Where the pixels are.
        given: What the caller says of the bands.
        declared: What the caller says of the numbers.
        time: What the caller says of the time; None = what the metadata say.
        aoi: The area that is needed of an array.
        gsd: Pixel size of the chip in metres, where it is known.
        shared: Whether the file holds the other modality, too.
        reader: Opens the files.

    Raises:
        LoadError: As `open_chip`.
    """
    array = store_array(source, modality, aoi, gsd) if is_array(source) else None
    place = _absolute(array.path if array else source)
    for path in place.values() if isinstance(place, Mapping) else [place]:
        use_array(path)
    if isinstance(place, Mapping):
        files = tuple(_one_band(name, path, modality, reader) for name, path in place.items())
    else:
        header = read_header(place, modality, reader)
        files = (name_bands(header, modality, given, shared=shared),)
    stated = array.time if array else files[0].header.acquired
    name = "+".join(file.header.name for file in files)
    # In one file, too, each modality is a scene of its own.
    name = f"{name} ({modality})" if shared else name
    item = item_of(modality, files, declared, times_of(stated if time is None else time), name=name)
    return OwnScene(
        scene=_scene(item, files, declared),
        files=files,
        source=place,
        sha256=array.sha256 if array else None,
    )


def _absolute(source: Any) -> str | dict[str, str]:
    if not isinstance(source, Mapping):
        return absolute(source)
    if not source:
        raise LoadError("No file was given.", change="{'red': 'red.tif', …}")
    return {str(name): absolute(path) for name, path in source.items()}


def _one_band(name: str, path: str, modality: str, reader: Reader) -> NamedBands:
    """One entry of {band: file}."""
    header = read_header(path, modality, reader)
    if len(header.bands) != 1:
        raise LoadError(
            f"The file {header.name} of the band {name!r} holds several.",
            found=header.listed,
            change=f"{modality}= that file alone, and bands= that tells which is which",
        )
    return name_bands(header, modality, parse_bands([name]))


def _scene(item: Mapping[str, Any], files: Sequence[NamedBands], declared: Declared) -> Scene:
    (scene,) = scenes_of(item, Path(files[0].header.href))
    if not any(file.numbered for file in files):
        return scene
    # By what was declared, not by letters in the name of a file.
    keys = {"SR": "sentinel-2-l2a", "TOA": "sentinel-2-l1c", None: "sentinel-2"}
    return replace(scene, sensor=keys[declared.level])
