"""How an answer came about, written down: chip, prompt, reply and engine become a `Record`.

Plain data only, so that a record survives a round trip through JSON unchanged. Addresses are
stored without query and user name: signatures and tokens live there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import platform
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import Claim, Mapped, answer_hash, mask_of
from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Options, Prompt, Region, Reply, Tuning, View
from earthmind_lab.grid import grid_data
from earthmind_lab.record import Record, unsigned, unsigned_deep
from earthmind_lab.record_parts import AFTER, BEFORE
from earthmind_lab.scene import Scene, ScenePair

if TYPE_CHECKING:
    from earthmind_lab.engine.base import Capabilities

PACKAGES = (
    "earthmind-lab", "numpy", "rasterio", "odc-geo", "odc-stac", "shapely", "pyproj", "scipy",
    "pillow", "torch", "transformers",
)  # fmt: skip
"""The libraries that decide pixels and numbers."""
ABOUT_ITEM = (
    "updated", "platform", "constellation", "license", "processing:level", "processing:version",
    "s2:processing_baseline", "processing:software", "sat:orbit_state", "sat:relative_orbit",
    "attribution", "sci:citation", "sci:doi", "sci:publications", "card4l:measurement_type",
    "card4l:measurement_convention",
)  # fmt: skip
"""Properties of a STAC item that a methods section needs."""
_WHO = ("seat", "adapter")
"""Options that say who asks, and who answers: that is told by what has answered."""
_BY_MASK = re.compile(r"by the scene's mask: (.+?)\.?$")


def make_record(
    *,
    prompt: Prompt,
    options: Options,
    reply: Reply,
    mapped: Mapped,
    claims: Sequence[Claim],
    capabilities: Capabilities,
    chip: Chip | None,
    picture: Mapping[str, Any] | None = None,
    before: Chip | None = None,
) -> Record:
    """The record of one answer.

    Args:
        prompt: What was asked, with its views.
        options: How.
        reply: What the model said and marked.
        mapped: The reply on the Earth.
        claims: The evidence.
        capabilities: Of the engine that answered.
        chip: Where the views come from; None for a plain picture.
        picture: Path and checksum of a plain picture.
        before: The earlier chip where two dates were compared.
    """
    masks = [mask for mask in map(mask_of, reply.objects) if mask is not None]
    shapes = [item.geometry for item in mapped.detections]
    inputs = [dict(picture)] if picture else []
    if chip is not None:
        inputs = [_input(scene, chip.provenance) for scene in chip.pair.scenes]
    search, about = _search(chip), _chip(chip) if chip else {}
    if before is not None:
        early = [_input(scene, before.provenance) for scene in before.pair.scenes]
        dated = [(BEFORE, each) for each in early] + [(AFTER, each) for each in inputs]
        inputs = [{**each, "date": date} for date, each in dated]
        search, about = {**search, BEFORE: _search(before)}, {**about, BEFORE: _chip(before)}
    return Record(
        question=prompt.text,
        text=reply.text,
        answer_hash=answer_hash(reply.token_ids, masks, shapes),
        aoi=plain(chip.aoi.to_dict()) if chip else None,
        search=plain(search),
        inputs=tuple(plain(inputs)),
        chip=plain(about),
        prompt=plain(_prompt(prompt)),
        options=plain({k: v for k, v in asdict(options).items() if k not in _WHO}),
        model=plain({**_model(capabilities, options, reply.adapter), **_reply(reply, masks)}),
        versions=versions(),
        evidence=tuple(plain(list(map(_claim, claims)))),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def plain(value: Any) -> Any:
    """A value as JSON has it: lists, text keys, no arrays, no infinities."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def pixel_hash(chip: Chip) -> str:
    """SHA-256 over the pixels of a chip and its inside mask."""
    digest = hashlib.sha256(f"{chip.bands}|{chip.polarisations}|".encode())
    for array in (chip.optical, chip.sar, chip.inside):
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}|".encode())
            # Canonical NaN and no -0.0: equal numbers must give equal bytes.
            real = array.dtype.kind == "f"
            clean = np.where(np.isnan(array), np.nan, array + 0) if real else array
            digest.update(np.ascontiguousarray(clean, dtype=array.dtype).tobytes())
    return digest.hexdigest()


def mask_hash(mask: NDArray[np.bool_]) -> str:
    """SHA-256 over a mask, (H, W) bool."""
    return answer_hash((), (mask,))


def region_dict(region: Region) -> dict[str, Any]:
    """A region as plain data: label, shape and its mask, packed."""
    packed = zlib.compress(np.packbits(region.mask).tobytes(), 9)
    text = base64.b64encode(packed).decode("ascii")
    return {"label": region.label, "shape": list(region.mask.shape), "mask": text}


def region_from(data: Mapping[str, Any]) -> Region:
    """The region that `region_dict` wrote.

    Raises:
        EarthMindError: Not written by it.
    """
    try:
        rows, columns = (int(side) for side in data["shape"])
        packed = np.frombuffer(zlib.decompress(base64.b64decode(data["mask"])), dtype=np.uint8)
        bits = np.unpackbits(packed, count=rows * columns).astype(bool)
        return Region(mask=bits.reshape(rows, columns), label=str(data["label"]))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise EarthMindError("A region of the record can't be read.", found=str(error)) from error


def versions() -> dict[str, str]:
    """Versions of Python, GDAL and the libraries that decide pixels and numbers."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    """Read once: no version changes under a running process."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if "earthmind-lab" not in found:
        from earthmind_lab import __version__

        found["earthmind-lab"] = __version__
    import rasterio

    found["gdal"] = rasterio.__gdal_version__
    return found


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _input(scene: Scene, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """One scene: what it is, where from, whose, and every file that was read of it."""
    reads = [_read(part) for part in provenance.get("inputs", ()) if part["scene"] == scene.id]
    items = [_item(item) for item in scene.items]
    first = items[0] if items else {}
    licences = dict.fromkeys(str(part["licence"]) for part in reads if part.get("licence"))
    owners = dict.fromkeys(str(part["attribution"]) for part in reads if part.get("attribution"))
    return {
        "id": scene.id,
        "modality": scene.modality,
        "sensor": scene.sensor,
        "collection": scene.collection,
        "observed": scene.observed,
        "platform": scene.orbit.get("platform") or first.get("platform"),
        "orbit": dict(scene.orbit),
        "processing": dict(scene.processing),
        "items": items,
        "assets": {name: unsigned(href) for name, href in scene.assets.items()},
        "reads": reads,
        "licence": "; ".join(licences) or first.get("license"),
        "attribution": "; ".join(owners) or first.get("attribution"),
    }


def _read(part: Mapping[str, Any]) -> dict[str, Any]:
    """One file that was read: its facts with an unsigned address."""
    facts: dict[str, Any] = unsigned_deep(plain(part))
    return facts


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    properties = item.get("properties") or {}
    kept = {name: properties[name] for name in ABOUT_ITEM if name in properties}
    kept |= {"id": item.get("id"), "collection": item.get("collection")}
    sums = {
        name: asset["file:checksum"]
        for name, asset in (item.get("assets") or {}).items()
        if isinstance(asset, Mapping) and "file:checksum" in asset
    }
    if sums:
        kept["checksums"] = sums
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        # A catalog of files says a relative one, which means nothing elsewhere.
        if isinstance(link, Mapping) and link.get("rel") == "self" and "://" in str(link["href"]):
            kept["self"] = unsigned(str(link["href"]))
    return kept


def _claim(claim: Claim) -> dict[str, Any]:
    """Without what a follow-up question took: that is the machine's, and never twice the same."""
    data = claim.to_dict()
    measured = {name: value for name, value in data["measured"].items() if name != "usage"}
    return {**data, "measured": measured}


def _search(chip: Chip | None) -> dict[str, Any]:
    if chip is None:
        return {}
    pair = chip.pair
    return {
        **pair.terms,
        "catalog": catalog_names(pair.catalog),
        "ids": {scene.modality: scene.id for scene in pair.scenes},
        "pair": pair.to_dict(),
        **({"overrides": dict(pair.overrides)} if pair.overrides else {}),
    }


def catalog_names(text: str) -> list[str]:
    """The catalogs of a pair, one or one per sensor, as names that work from any folder.

    Args:
        text: What a pair says: a name, a path or an address, or two of them joined by ", ".
    """
    words = text.split(", ")
    cuts = [(", ".join(words[:n]), ", ".join(words[n:])) for n in range(1, len(words))]
    # A path may hold the ", " that joins two names: what exists decides.
    known = (cut for cut in cuts if all(map(_known, cut)))
    parts = (text,) if _known(text) else next(known, tuple(words))
    return [_from_anywhere(part) for part in parts if part]


def _known(catalog: str) -> bool:
    return catalog == "sample" or "://" in catalog or _path(catalog).exists()


def _path(catalog: str) -> Path:
    return Path(os.path.expanduser(catalog))  # noqa: PTH111  leaves an unknown user as it is


def _from_anywhere(catalog: str) -> str:
    if catalog == "sample" or "://" in catalog:
        return unsigned(catalog)
    path = _path(catalog)
    return str(path.absolute()) if path.exists() else catalog


def cloud_method(pair: ScenePair) -> str | None:
    """What told the cloud of a pair: a mask's title, ``scene percentage`` or ``unknown``.

    The sentences are those of `data.pairing`; None without an optical scene.
    """
    if pair.optical is None:
        return None
    for reason in pair.reasons:
        if found := _BY_MASK.search(reason):
            return found[1]
        if reason.startswith("No cloud mask"):
            return "scene percentage"
    return "unknown"


def _chip(chip: Chip) -> dict[str, Any]:
    rest = {k: v for k, v in chip.provenance.items() if k not in ("inputs", "grid")}
    return {
        "grid": grid_data(chip.grid),
        "gsd": chip.gsd,
        "bands": chip.bands,
        "polarisations": chip.polarisations,
        "radiometry": chip.radiometry.to_dict(),
        "cloud_method": cloud_method(chip.pair),
        "pixel_hash": pixel_hash(chip),
        "provenance": unsigned_deep(plain(rest)),
    }


def _prompt(prompt: Prompt) -> dict[str, Any]:
    return {
        "text": prompt.text,
        "history": [asdict(turn) for turn in prompt.history],
        "regions": [region_dict(region) for region in prompt.regions],
        "views": [_view(view) for view in prompt.views],
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "name": view.name,
        "modality": view.modality,
        "time": view.time,
        "bands": view.bands,
        "gsd": view.gsd,
        "stretch": view.stretch,
        "hash": view.hash,
    }


def _model(capabilities: Capabilities, options: Options, adapter: Tuning | None) -> dict[str, Any]:
    tuned = {"adapter": {"name": adapter.name, "hash": adapter.hash}} if adapter else {}
    trained = adapter.fusion if adapter else None
    return {
        "name": capabilities.name,
        "revision": capabilities.revision,
        "weight_hash": capabilities.weight_hash,
        "licence": capabilities.licence,
        "notice": capabilities.notice,
        "fusion": options.fusion or trained or capabilities.fusion,
        "dtype": capabilities.dtype,
        "device": capabilities.device,
        **tuned,
    }


def _reply(reply: Reply, masks: Sequence[NDArray[np.bool_]]) -> dict[str, Any]:
    tokens = json.dumps(list(reply.token_ids)).encode()
    return {
        "token_hash": hashlib.sha256(tokens).hexdigest(),
        "mask_hashes": [mask_hash(mask) for mask in masks],
        "mask_pixels": [int(mask.sum()) for mask in masks],
    }
