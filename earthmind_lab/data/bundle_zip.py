"""The zip of a bundle: members written with their sums, and read only as the manifest says.

A bundle comes from somebody else: names outside the list, two members of one name, links, folders,
passwords, sizes or sums that differ from the manifest's, and more than memory should hold are
refused before a member is used. Nothing is unpacked to a disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from earthmind_lab.data.cache_key import as_plain

FORMAT = 1
"""Of a bundle; others are not read."""
MANIFEST, ITEMS = "manifest.json", "items.json"
MAX_BYTES = 8_000_000_000
"""Of everything in a bundle, unpacked: all of it will be in memory."""
MAX_JSON = 64_000_000
"""Of one JSON file."""
MAX_MEMBERS = 10_000
LEVEL = 1
"""Of compression, the fastest: the numbers of a sensor hardly shrink more with a slower one."""
_NAME = re.compile(r"items\.json|records/\d{1,4}\.json|chips/\d{1,4}/[a-z_]{1,40}\.(json|npy)")


class NewMembers:
    """Members of a new zip, with their sizes and sums."""

    def __init__(self, target: zipfile.ZipFile) -> None:
        self.target = target
        self.listed: dict[str, dict[str, Any]] = {}

    @contextmanager
    def new(self, name: str) -> Iterator[BinaryIO]:
        """Open the next member; its sum is taken while it is written."""
        with self.target.open(name, "w", force_zip64=True) as stream:
            summed = _Summed(cast("BinaryIO", stream))
            yield cast("BinaryIO", summed)
        self.listed[name] = {"bytes": summed.bytes, "sha256": summed.digest.hexdigest()}

    def folder(self, name: str) -> Callable[[str], Any]:
        """`new` inside a folder."""
        return lambda file: self.new(f"{name}/{file}")

    def json(self, name: str, data: Any) -> None:
        """A member with plain data."""
        with self.new(name) as stream:
            stream.write(json.dumps(data, default=as_plain, indent=1).encode())

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write the manifest, with what else it shall say."""
        self.json(MANIFEST, {"format": FORMAT, **about, "members": dict(self.listed)})


class _Summed:
    """A stream that counts and sums what goes into it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest, self.bytes = stream, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> int:
        """Write, count and sum."""
        self.digest.update(data)
        self.bytes += memoryview(data).nbytes
        return self.stream.write(data)


class CheckedMembers:
    """Members of a zip, each as the manifest says or not at all."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        listed = archive.infolist()
        names = [info.filename for info in listed]
        if len(names) > MAX_MEMBERS or len(set(names)) != len(names):
            raise ValueError(f"{len(names)} members, {len(set(names))} names")
        for info in listed:
            _check_member(info)
        held = {info.filename: info for info in listed}
        self.manifest = json.loads(_whole(archive, held.pop(MANIFEST), MAX_JSON))
        if self.manifest["format"] != FORMAT:
            raise ValueError(f"format {self.manifest['format']!r}, not {FORMAT}")
        self.members: Mapping[str, Mapping[str, Any]] = self.manifest["members"]
        if set(self.members) != set(held):
            raise ValueError(f"{sorted(set(self.members) ^ set(held))[:3]} in one list only")
        for name, info in held.items():
            if info.file_size != self.members[name]["bytes"]:
                raise ValueError(f"{name} has {info.file_size} bytes, not as stated")
        if sum(info.file_size for info in listed) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")

    def read(self, name: str) -> bytes:
        """A member whose sum is right."""
        info = self.archive.getinfo(name)
        data = _whole(self.archive, info, MAX_JSON if name.endswith(".json") else MAX_BYTES)
        if hashlib.sha256(data).hexdigest() != self.members[name]["sha256"]:
            raise ValueError(f"{name} is not as it was written")
        return data

    def numbers(self, kind: str) -> list[int]:
        """Of the chips or the records, in order."""
        parts = [name.removesuffix(".json").split("/") for name in self.members]
        return sorted({int(part[1]) for part in parts if part[0] == kind})

    def chip(self, number: int) -> _ChipIn:
        """The files of one chip."""
        return _ChipIn(self, f"chips/{number}/")


@dataclass(frozen=True)
class _ChipIn:
    """The files of one chip in a zip."""

    source: CheckedMembers
    folder: str

    def open(self, name: str) -> BinaryIO:
        """A file whose sum is right."""
        return io.BytesIO(self.source.read(self.folder + name))

    def size(self, name: str) -> int:
        """Its bytes."""
        return int(self.source.members[self.folder + name]["bytes"])


def _check_member(info: zipfile.ZipInfo) -> None:
    """Refuse what `save_bundle` never writes: folders, links, passwords, other names."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    plain = kind in (0, stat.S_IFREG) and not info.flag_bits & 1
    known = info.filename == MANIFEST or _NAME.fullmatch(info.filename)
    if not (plain and known and info.compress_type == zipfile.ZIP_DEFLATED):
        raise ValueError(f"a member {info.filename[:80]!r}")


def _whole(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """A member, as long as its entry says and no longer than allowed."""
    if info.file_size > most:
        raise ValueError(f"{info.filename} has {info.file_size} bytes, at most {most} are read")
    with archive.open(info) as stream:
        data = stream.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{info.filename} is longer or shorter than it says")
    return data
