"""Where the pixels on a map come from, as rows of words: items, levels, resampling, checksums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from earthmind_lab.chip import Chip
from earthmind_lab.widgets.legend import scene_of
from earthmind_lab.widgets.protocol import clean
from earthmind_lab.widgets.words import moment, sensor_words


def origin_of(chip: Chip, earlier: Chip | None = None) -> list[dict[str, Any]]:
    """One block per scene of a chip, and one for the grid that all lie on.

    Args:
        chip: What is shown.
        earlier: What it is compared with, on the same grid.

    Returns:
        ``title``, ``facts`` (name and value each), ``files`` (``band``, ``item``, ``resampling``,
        ``checksum``).
    """
    blocks = [_scene(chip, modality) for modality in ("optical", "sar")]
    if earlier is not None:
        before = [_scene(earlier, modality) for modality in ("optical", "sar")]
        blocks += [b and {**b, "title": f"{b['title']}, earlier date"} for b in before]
    return [*(block for block in blocks if block is not None), _grid(chip)]


def _scene(chip: Chip, modality: str) -> dict[str, Any] | None:
    scene = scene_of(chip, modality)
    if scene is None:
        return None
    files = [each for each in chip.provenance.get("inputs", ()) if each["modality"] == modality]
    made = scene.processing
    facts = {
        "Observed": moment(scene.observed or ""),
        "Items": _joined(each.get("item") for each in files) or scene.id,
        "Collection": _joined(each.get("collection") for each in files),
        "Level": _joined([made.get("product_type"), made.get("level")]),
        "Baseline": str(made.get("baseline") or "not stated"),
        **(_optical(chip) if modality == "optical" else _sar(chip)),
        "Owner": _joined(each.get("attribution") for each in files),
        "Licence": _joined(each.get("licence") for each in files),
    }
    return {
        "title": clean(
            f"{sensor_words(scene.sensor)} ({'SAR' if modality == 'sar' else modality})"
        ),
        "facts": _facts(facts),
        "files": [_file(each) for each in files],
    }


def _optical(chip: Chip) -> dict[str, str]:
    radiometry = chip.radiometry
    offset = radiometry.offset_applied
    return {
        "Numbers": f"reflectance, {radiometry.level or 'level unknown'}",
        "Offset applied": "" if offset is None else f"{offset:g}",
    }


def _sar(chip: Chip) -> dict[str, str]:
    radiometry = chip.radiometry
    return {
        "Numbers": f"{radiometry.quantity or 'quantity unknown'}, dB",
        "Geometry": (radiometry.geometry or "unknown").replace("_", " "),
        "Noise removed": _YES.get(radiometry.noise_removed, "unknown"),
        "Speckle filter": str(radiometry.speckle_filter or "none"),
    }


_YES: dict[bool | None, str] = {True: "yes", False: "no"}


def _grid(chip: Chip) -> dict[str, Any]:
    height, width = (int(side) for side in chip.grid.shape)
    domains = chip.provenance.get("resampling_domain", {})
    facts = {
        "Grid": f"{chip.grid.crs}, {width} × {height} px of {chip.gsd:.4g} m",
        "Resampled in": ", ".join(f"{what}: {how}" for what, how in domains.items()),
        "Shift between the sensors": str(getattr(chip.radiometry, "residual_shift_note", "") or ""),
    }
    return {"title": "Common grid", "facts": _facts(facts), "files": []}


def _file(part: Mapping[str, Any]) -> dict[str, str]:
    sha, etag = part.get("sha256"), part.get("etag") or part.get("fingerprint")
    checksum = f"sha256 {sha}" if sha else f"etag {etag}" if etag else "none"
    return {
        "band": clean(part.get("band", "")),
        "item": clean(part.get("item") or part.get("scene", "")),
        "resampling": clean(part.get("resampling") or "none"),
        "checksum": clean(checksum),
    }


def _facts(facts: Mapping[str, str]) -> list[list[str]]:
    return [[name, clean(value)] for name, value in facts.items() if value]


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))
