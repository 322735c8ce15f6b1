"""A chip as a few files: what the cache keeps in a folder and a bundle carries in a zip.

chip.json     grid, bands, radiometry, provenance; name, shape and checksum of every array
pair.json     the scenes with their STAC items and the AOI; addresses without signatures
optical.npy, sar.npy, inside.npy, …   the arrays, one a file, as `numpy.save` writes them

Everything is checked while it is read. The arrays' checksum is the sum of their file's 64-bit
words: as fast as memory, and it changes with any flipped byte, lost end or block of zeros. (It
doesn't see words that changed places, which no disk does; a bundle has SHA-256 beside it.) The
JSON files hold their own SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, Radiometry
from earthmind_lab.data.cache_key import as_plain
from earthmind_lab.data.pair_data import pair_data, pair_of
from earthmind_lab.errors import AssetUnavailable, EarthMindError
from earthmind_lab.grid import grid_data, grid_of
from earthmind_lab.record import unsigned_deep
from earthmind_lab.scene import ScenePair

Writer = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a new file by its name."""
CHIP, PAIR = "chip.json", "pair.json"
FORMAT = 1
"""Of these files; others are not read."""
_SEALED = re.compile(rb'\{"sha256": "([0-9a-f]{64})", "data": (.*)\}', flags=re.DOTALL)
_KINDS = ("float32", "bool", "uint8")
"""Types of numbers that a chip may hold."""
_BLOCK = 2**20
"""Bytes that are read at a time; whole 64-bit words."""
_APART = ("grid", "pair", "aoi", "radiometry")
"""Fields of a chip that are no plain data."""


class Source(Protocol):
    """Where the files of one chip are read from."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file by its name."""

    def size(self, name: str) -> int:
        """Its bytes."""


class Folder:
    """The files of one chip on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str) -> BinaryIO:
        """A file by its name."""
        return (self.path / name).open("rb")

    def size(self, name: str) -> int:
        """Its bytes."""
        return (self.path / name).stat().st_size


def write_chip(chip: Chip, new: Writer) -> None:
    """Write every file of a chip.

    Raises:
        OSError: A file can't be written.
        TypeError, ValueError: A field is no plain data.
    """
    plain: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for field in fields(chip):
        value = getattr(chip, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = _write_array(value, field.name, new)
        elif field.name not in _APART:
            plain[field.name] = value
    about = {
        "format": FORMAT,
        "grid": grid_data(chip.grid),
        "radiometry": chip.radiometry.to_dict(),
        "arrays": arrays,
        "fields": plain,
    }
    write_sealed(about, CHIP, new)
    who = {"pair": pair_data(chip.pair), "aoi": chip.aoi.to_dict()}
    write_sealed(unsigned_deep(json.loads(json.dumps(who, default=as_plain))), PAIR, new)


def read_chip(source: Source, pair: ScenePair | None = None, aoi: AOI | None = None) -> Chip:
    """Read a chip, checked.

    Args:
        source: Its files.
        pair: The scenes that it shall carry; None = those it was written with.
        aoi: The area that it shall carry; None = the one it was written with.

    Raises:
        AssetUnavailable: A file is damaged, or of another version.
        FileNotFoundError: A file is missing.
    """
    with _sound():
        about = _read_sealed(source, CHIP)
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        if pair is None or aoi is None:
            pair, aoi = read_pair(source)
        rest: dict[str, Any] = {
            name: tuple(value) if name in ("bands", "polarisations") else value
            for name, value in about["fields"].items()
        }
        for name, facts in about["arrays"].items():
            rest[name] = _read_array(source, name, facts)
        return Chip(
            grid=grid_of(about["grid"]),
            radiometry=_radiometry(about["radiometry"]),
            pair=pair,
            aoi=aoi,
            **rest,
        )


def _radiometry(data: Mapping[str, Any]) -> Radiometry:
    """JSON has no tuples."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Radiometry(**given)


def read_pair(source: Source) -> tuple[ScenePair, AOI]:
    """The scenes and the area of a chip, without its pixels.

    Raises:
        AssetUnavailable: The file is damaged.
        FileNotFoundError: It is missing.
    """
    with _sound():
        who = _read_sealed(source, PAIR)
        aoi = AOI.from_geojson(who["aoi"]["geometry"], name=str(who["aoi"]["name"]))
        return pair_of(who["pair"]), aoi


def write_sealed(data: Any, name: str, new: Writer) -> None:
    """Write plain data as JSON with its own checksum."""
    body = json.dumps(data, default=as_plain).encode()
    seal = hashlib.sha256(body).hexdigest()
    with new(name) as stream:
        stream.write(b'{"sha256": "%s", "data": %s}' % (seal.encode(), body))


def _read_sealed(source: Source, name: str) -> Any:
    with source.open(name) as stream:
        return unsealed(stream.read(), name)


def unsealed(text: bytes, name: str) -> Any:
    """What `write_sealed` wrote.

    Raises:
        ValueError: Damaged.
    """
    found = _SEALED.fullmatch(text)
    if found is None or hashlib.sha256(found[2]).hexdigest().encode() != found[1]:
        raise ValueError(f"{name} is not as it was written")
    return json.loads(found[2])


def _write_array(array: NDArray[Any], name: str, new: Writer) -> dict[str, Any]:
    """Write one array; what is needed to read it."""
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    start = header.getvalue()
    with new(f"{name}.npy") as stream:
        stream.write(start)
        stream.write(_bytes_of(array).data)
    total = (_sum(np.frombuffer(start, np.uint8)) + _sum(_bytes_of(array))) % 2**64
    facts = {"dtype": array.dtype.name, "shape": array.shape}
    # Text: 64 bits are more than JSON's numbers hold for most who read it.
    return {**facts, "header": len(start), "sum": f"{total:016x}"}


def _read_array(source: Source, name: str, facts: Mapping[str, Any]) -> NDArray[Any]:
    """One array.

    Its type and shape come from `chip.json`, whose seal was checked: the file's own header would
    have to be parsed, and could ask for any amount of memory.
    """
    dtype, shape = str(facts["dtype"]), tuple(int(side) for side in facts["shape"])
    size, skipped = source.size(f"{name}.npy"), int(facts["header"])
    wanted = math.prod(shape) * np.dtype(dtype).itemsize if dtype in _KINDS else -1
    if not name.isidentifier() or min(shape) < 0 or size != skipped + wanted or skipped > 4096:
        raise ValueError(f"{name}.npy holds {size} bytes, which {facts} is not")
    with source.open(f"{name}.npy") as stream:
        start = stream.read(skipped)
        array = np.empty(shape, dtype)
        total = (_sum(np.frombuffer(start, np.uint8)) + _fill(stream, _bytes_of(array))) % 2**64
    if f"{total:016x}" != facts["sum"]:
        raise ValueError(f"{name}.npy is not as it was written")
    return array


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _fill(stream: BinaryIO, target: NDArray[np.uint8]) -> int:
    """Read an array's bytes; their sum, taken while each block is still in the processor."""
    total = 0
    for start in range(0, len(target), _BLOCK):
        block = target[start : start + _BLOCK]
        done = 0
        while done < len(block):
            count = stream.readinto(block.data[done:])  # type: ignore[attr-defined]  # of every binary file
            if not count:
                raise ValueError(f"the file ends after {start + done} of {len(target)} bytes")
            done += count
        total += _sum(block)
    return total


def _sum(data: NDArray[np.uint8]) -> int:
    """Of 64-bit words; the bytes of a last, incomplete one count singly."""
    whole = len(data) // 8 * 8
    return int(data[:whole].view("<u8").sum(dtype=np.uint64)) + int(data[whole:].sum())


@contextmanager
def _sound() -> Iterator[None]:
    """Whatever a damaged file makes the libraries say is one error of ours."""
    from shapely.errors import ShapelyError

    try:
        yield
    except (
        EarthMindError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
        RuntimeError, ShapelyError,
    ) as error:  # fmt: skip  # RuntimeError: pyproj's, and a nest too deep
        if isinstance(error, AssetUnavailable):
            raise
        raise AssetUnavailable(
            "The stored chip is damaged, or of another version of earthmind_lab.",
            found=f"{type(error).__name__}: {error}"[:300],
            change="load it again from its scenes",
        ) from error
