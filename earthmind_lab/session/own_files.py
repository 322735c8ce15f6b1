"""Own files of a subject: what was said of them, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from earthmind_lab.errors import AssetUnavailable, LoadError
from earthmind_lab.recording import plain
from earthmind_lab.session.subject import Subject

if TYPE_CHECKING:
    from earthmind_lab.chip import Chip
    from earthmind_lab.data.files import Reader

SENSORS = ("optical", "sar")
Sha256: TypeAlias = Callable[[Path], str]


def files_of(given: Mapping[str, Any], sha256: Sha256) -> dict[str, Any]:
    """Arguments of `open_chip` as `Subject.files`: plain data, with a hash of each local file.

    Args:
        given: Sources as `paths_of` gives them; None = not given.
        sha256: Hashes a file.
    """
    arguments = plain({key: value for key, value in given.items() if value is not None})
    return {
        "arguments": arguments,
        "hashes": {str(path): sha256(path) for path in _local(arguments)},
    }


def paths_of(source: Any) -> str | dict[str, str] | None:
    """Where a source lies, in full.

    Raises:
        AssetUnavailable: Neither a file nor an address.
        LoadError: An array, which no session can keep.
    """
    from earthmind_lab.data.own_header import absolute

    if isinstance(source, Mapping):
        return {str(band): absolute(path) for band, path in source.items()}
    if source is not None and not isinstance(source, str | Path):
        raise LoadError(
            "A session keeps files by their paths.",
            found=type(source).__name__, change="em.open_chip(...) for arrays, or save them first",
        )  # fmt: skip
    return None if source is None else absolute(source)


def open_own(subject: Subject, reader: Reader, sha256: Sha256) -> Chip:
    """The chip of a subject's files.

    Raises:
        AssetUnavailable: One is gone, or another than it was.
        LoadError: As `open_chip`.
    """
    from earthmind_lab.data.own_files import open_chip

    assert subject.files is not None
    for path in _local(subject.files["arguments"]):
        _check_same(path, subject, sha256)
    return open_chip(aoi=subject.aoi, reader=reader, **subject.files["arguments"])


def _check_same(path: Path, subject: Subject, sha256: Sha256) -> None:
    """Refuse other pixels under the same name: what was said is about the old ones."""
    if not path.is_file():
        raise AssetUnavailable(
            f"The file {path.name} of {subject.name!r} is gone.",
            found=f"no file {path}", change="put it back, or open it from where it is now",
        )  # fmt: skip
    assert subject.files is not None
    if sha256(path) != subject.files["hashes"].get(str(path)):
        raise AssetUnavailable(
            f"The file {path.name} of {subject.name!r} has changed since it was opened.",
            found=str(path), change="put the old one back, or open this one as files of their own",
        )  # fmt: skip


def _local(arguments: Mapping[str, Any]) -> Iterator[Path]:
    """The files of this machine among the arguments."""
    for source in (arguments.get(sensor) for sensor in SENSORS):
        for path in source.values() if isinstance(source, Mapping) else [source]:
            if path is not None and "://" not in path:
                yield Path(path)
