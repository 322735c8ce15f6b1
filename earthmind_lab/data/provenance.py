"""Where the pixels of a chip came from, as plain data for records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from earthmind_lab.chip import LoadPlan
from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.files import local_file
from earthmind_lab.data.radiometry import Scaling
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import Kernel, Lattice
from earthmind_lab.record import unsigned
from earthmind_lab.scene import Scene


def input_facts(
    scene: Scene, ref: AssetRef, source: Raster, kernel: Kernel, scaling: Scaling
) -> dict[str, Any]:
    """One file: what it is, whose it is and what was done to it."""
    properties = ref.properties
    path = local_file(ref)
    return {
        "modality": scene.modality,
        "band": ref.band,
        "scene": scene.id,
        "item": ref.item.get("id", scene.id),
        "collection": scene.collection,
        "asset": ref.key,
        "href": unsigned(ref.href),
        "band_in_file": source.index,
        "sha256": None if path is None else sha256(path),
        "etag": source.version,
        "updated": properties.get("updated"),
        "licence": properties.get("license") or "unknown",
        "attribution": properties.get("attribution") or _owners(properties),
        "resampling": kernel,
        "scale": scaling.scale,
        "offset": scaling.offset,
        "nodata": list(scaling.nodata),
        "decided_by": scaling.reason,
    }


def _owners(properties: Mapping[str, Any]) -> str | None:
    """Names of the providers, where an item has no attribution of its own."""
    providers = properties.get("providers")
    listed = providers if isinstance(providers, list) else []
    names = [each.get("name") for each in listed if isinstance(each, Mapping)]
    return ", ".join(dict.fromkeys(str(name) for name in names if name)) or None


def provenance(
    plan: LoadPlan, lattice: Lattice, inputs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """A whole chip.

    Args:
        plan: What was loaded.
        lattice: The lattice of its grid.
        inputs: Per band, the `input_facts` of the files it was read from.
    """
    files = [dict(facts) for band in inputs.values() for facts in band]
    own = plan.pair.optical is not None and (lattice.x0, lattice.y0) != (0.0, 0.0)
    return {
        "grid": {
            "crs": str(plan.grid.crs),
            "affine": list(plan.grid.affine)[:6],
            "shape": [int(side) for side in plan.grid.shape],
            "lattice": "optical scene" if own else "multiples of the GSD",
        },
        "resampling": {band: facts[0]["resampling"] for band, facts in inputs.items()},
        "resampling_domain": {"optical": "reflectance", "sar": "linear power", "masks": "nearest"},
        "inputs": files,
        "attribution": sorted({str(f["attribution"]) for f in files if f["attribution"]}),
        **({} if plan.speckle is None else {"speckle": plan.speckle}),
        "licences": sorted({str(f["licence"]) for f in files if f["licence"]}),
    }


def sha256(path: Path) -> str:
    """Checksum of a file; read once as long as the file doesn't change."""
    status = path.stat()
    return _sha256_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _sha256_of(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
