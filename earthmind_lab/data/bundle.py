"""A bundle: chips with their scenes, records, licences in one zip, for a machine without network.

    save_bundle([chip], "orihuela.zip", records=[answer.record])
    em.ask(open_bundle("orihuela.zip").chips[0], "Segment the water.")

manifest.json     format, licences, attribution; bytes and SHA-256 of every other member
items.json        the STAC items as an ItemCollection, a static catalog that other tools read too
chips/1/…         one chip, in the form of the disk cache (`chip_files`)
records/1.json    a record of an answer

A bundle comes from somebody else. It is read in memory and nothing of it is written anywhere, not
even into the disk cache, where it would later pass for what this machine has read itself. Members
have the names above and the sizes and sums that the manifest says, or the bundle is refused. The
files of another machine that its scenes name are never opened on this one.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earthmind_lab.chip import Chip
from earthmind_lab.data.bundle_zip import ITEMS, LEVEL, CheckedMembers, NewMembers
from earthmind_lab.data.cache_key import as_plain
from earthmind_lab.data.chip_files import read_chip, write_chip
from earthmind_lab.digests import seal
from earthmind_lab.errors import AssetUnavailable, EarthMindError, LoadError
from earthmind_lab.record import Record, unsigned_deep
from earthmind_lab.scene import Scene

_REMOTE = ("http://", "https://", "s3://")


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """What a bundle holds."""

    chips: tuple[Chip, ...]
    """In the order they were put in."""
    records: tuple[Record, ...] = ()
    """Of answers, in the order they were put in."""
    licences: tuple[str, ...] = ()
    """Of the scenes."""
    attribution: tuple[str, ...] = ()
    """Whom to name."""

    def __repr__(self) -> str:
        return f"Bundle({', '.join(map(repr, self.chips))}; {len(self.records)} records)"


def save_bundle(
    chips: Chip | Sequence[Chip], path: str | Path, *, records: Sequence[Record] = ()
) -> Path:
    """Write chips, their scenes and records into one file; it appears complete or not at all.

    Addresses go in without signatures, tokens and passwords.

    Args:
        chips: One, or several.
        path: The zip to write; replaced where it exists; its folder is made.
        records: Of answers about the chips.

    Returns:
        The path.

    Raises:
        LoadError: No chip, or the file can't be written.
    """
    path = Path(path)
    chips = [chips] if isinstance(chips, Chip) else chips
    if not chips:
        raise LoadError("A bundle needs at least one chip.")
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".earthmind.", suffix=".part", dir=path.parent)
        draft = Path(name)
        with (
            os.fdopen(handle, "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as target,
        ):
            _fill(NewMembers(target), chips, records)
        draft.chmod(0o644)
        draft.replace(path)
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise LoadError(
            f"The bundle {str(path)!r} can't be written.", found=str(error), change="another place"
        ) from error
    finally:
        if draft is not None:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    return path


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle into memory, every member checked.

    Args:
        path: What `save_bundle` wrote.

    Raises:
        AssetUnavailable: It is missing, damaged, no bundle, too large, or of another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            source = CheckedMembers(archive)
            about = source.manifest
            source.read(ITEMS)  # for others, but it shall be whole
            return Bundle(
                chips=tuple(_foreign(read_chip(source.chip(n))) for n in source.numbers("chips")),
                records=tuple(
                    Record.from_dict(json.loads(source.read(f"records/{n}.json")))
                    for n in source.numbers("records")
                ),
                licences=tuple(map(str, about["licences"])),
                attribution=tuple(map(str, about["attribution"])),
            )
    except (
        EarthMindError, OSError, LookupError, TypeError, ValueError, AttributeError,
        RuntimeError, zipfile.BadZipFile, zlib.error, EOFError,
    ) as error:  # fmt: skip  # RuntimeError: a password, a method or a nest that isn't ours
        raise AssetUnavailable(
            f"The bundle {str(path)!r} can't be read: missing, damaged or no bundle.",
            found=f"{error}"[:300],
            change="copy the file again, or write it with earthmind chip --bundle",
        ) from error


def _fill(members: NewMembers, chips: Sequence[Chip], records: Sequence[Record]) -> None:
    for number, chip in enumerate(chips, start=1):
        clean = replace(chip, provenance=unsigned_deep(_plain(chip.provenance)))
        write_chip(clean, members.folder(f"chips/{number}"))
    for number, record in enumerate(records, start=1):
        data = unsigned_deep(_plain(record.to_dict()))
        members.json(f"records/{number}.json", seal(data) if record.sealed else data)
    members.json(ITEMS, _collection(chips))
    licences, owners = (
        sorted({str(each) for chip in chips for each in chip.provenance.get(name, ())})
        for name in ("licences", "attribution")
    )
    members.finish({"licences": licences, "attribution": owners})


def _collection(chips: Sequence[Chip]) -> dict[str, Any]:
    """Every item once."""
    items: dict[str, Any] = {}
    for scene in (scene for chip in chips for scene in chip.pair.scenes):
        for item in scene.items:
            items.setdefault(json.dumps(_plain(item), sort_keys=True), unsigned_deep(_plain(item)))
    return {"type": "FeatureCollection", "features": list(items.values())}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=as_plain))


def _foreign(chip: Chip) -> Chip:
    """A chip whose scenes name no file of this machine."""
    optical, sar = (scene and _far(scene) for scene in (chip.pair.optical, chip.pair.sar))
    return replace(chip, pair=replace(chip.pair, optical=optical, sar=sar))


def _far(scene: Scene) -> Scene:
    assets = {band: _far_href(str(href)) for band, href in scene.assets.items()}
    return replace(scene, assets=assets, items=tuple(_far_item(item) for item in scene.items))


def _far_item(item: Mapping[str, Any]) -> dict[str, Any]:
    listed = item.get("assets")
    assets = {
        key: {**asset, "href": _far_href(str(asset.get("href", "")))}
        for key, asset in (listed.items() if isinstance(listed, Mapping) else ())
        if isinstance(asset, Mapping)
    }
    return {**item, "assets": assets}


def _far_href(href: str) -> str:
    """A remote address as it is; of a file its name only, in a scheme that nothing opens."""
    return href if href.lower().startswith(_REMOTE) else f"bundle:{href.rpartition('/')[2]}"
