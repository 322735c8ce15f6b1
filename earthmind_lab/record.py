"""Record: all that replay and a methods section need, as plain data without credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from earthmind_lab.digests import KEY, broken_parts, find_break, part_words, seal
from earthmind_lab.errors import EarthMindError

FORMAT = 2
"""Version of the file format; 1 had no digests."""
_REMOTE = ("http", "https", "s3", "gs", "az")


@dataclass(frozen=True, kw_only=True)
class Record:
    """How an answer came about."""

    question: str
    text: str
    """What the model said."""
    answer_hash: str
    """SHA-256 over token ids, thresholded masks and geometry rounded to 1e-7 degrees."""
    aoi: Mapping[str, Any] | None = None
    """Name and GeoJSON geometry; None for a plain picture."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """Catalogs (a list of names), scene ids, the pair, `ScenePair.terms`, user overrides."""
    inputs: tuple[Mapping[str, Any], ...] = ()
    """Per scene: item ids, collection, updated, checksums, unsigned hrefs, platform, time,
    orbit, baseline, licence, attribution."""
    chip: Mapping[str, Any] = field(default_factory=dict)
    """Grid, GSD, resampling, radiometry, cloud method, stretch per view, pixel hash."""
    prompt: Mapping[str, Any] = field(default_factory=dict)
    """Question, history, regions, view hashes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    """Name, revision, weight hash, licence, notice, fusion, dtype, device; of an adapter name and
    hash."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the libraries that decide pixels and numbers."""
    evidence: tuple[Mapping[str, Any], ...] = ()
    created: str = ""
    """UTC."""
    format: int = FORMAT

    @property
    def sealed(self) -> bool:
        """Whether it goes with digests of its parts; those of format 1 never had any."""
        return self.format > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON has it, with their digests."""
        data = {**asdict(self), "inputs": list(self.inputs), "evidence": list(self.evidence)}
        return seal(data) if self.sealed else data

    def analysis(self) -> dict[str, Any]:
        """What was asked of which pixels, and what came of it: equal for one analysis by any face.

        All but the time of the asking and the name of the AOI, which a face may have made up.
        """
        data = self.to_dict()
        data.pop(KEY, None)
        del data["created"]
        data["aoi"] = self.aoi and {"geometry": self.aoi["geometry"]}
        return data

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; the file appears complete or not at all.

        Raises:
            EarthMindError: The file can't be written.
        """
        path = Path(path)
        draft = path.with_name(path.name + ".part")
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, "utf-8")
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):  # what hindered the draft may hinder this
                draft.unlink(missing_ok=True)
            raise EarthMindError(
                f"The record {path} can't be written.", found=str(error), change="another place"
            ) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """Read a record that `save` wrote.

        Raises:
            EarthMindError: Not a record, of a newer format, or not as it was written; then the
                message names the parts that differ.
        """
        try:
            raw = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            raise EarthMindError(
                f"The record {str(path)!r} can't be read.", found=str(error)
            ) from error
        return cls.from_dict(_parsed(raw, str(path)), name=str(path))

    @classmethod
    def from_dict(cls, data: Any, *, name: str = "record") -> Record:
        """The record that `to_dict` gave.

        Args:
            data: What JSON made of it.
            name: Where it comes from, for messages.

        Raises:
            EarthMindError: As `load`.
        """
        known = set(cls.__dataclass_fields__)
        needed = {"question", "text", "answer_hash", "format"}
        if isinstance(data, dict) and KEY in data:
            try:
                broken = broken_parts(data)
            except (RecursionError, TypeError, ValueError) as error:
                raise EarthMindError(f"{name!r} is not a record of an answer.") from error
            if broken:
                raise _damaged(name, broken, "a digest that differs")
            data = {key: value for key, value in data.items() if key != KEY}
        elif isinstance(data, dict) and data.get("format") == FORMAT:
            raise _damaged(name, [KEY], "none")
        if not isinstance(data, dict) or not needed <= set(data):
            raise EarthMindError(f"{name!r} is not a record of an answer.")
        if data["format"] not in range(1, FORMAT + 1) or set(data) - known:
            raise EarthMindError(
                f"The record {name!r} was written by another version.",
                found=f"format {data['format']}",
                change="the version of earthmind_lab that the record names",
            )
        listed = {key: tuple(data.get(key, ())) for key in ("inputs", "evidence")}
        return cls(**{**data, **listed})


def _parsed(raw: bytes, name: str) -> Any:
    """What the JSON of a record says.

    Raises:
        EarthMindError: It is no JSON; where it was one, the message names the part.
    """
    # A byte that is no UTF-8 becomes a character of its own, which a digest finds.
    text = raw.decode("utf-8", errors="surrogateescape")
    try:
        data = json.loads(text, parse_constant=_refuse)
        sealed = isinstance(data, dict) and (KEY in data or data.get("format") == FORMAT)
        if not sealed:
            raw.decode("utf-8")
    except (ValueError, RecursionError) as error:
        end = error.start if isinstance(error, UnicodeDecodeError) else getattr(error, "pos", 0)
        if broken := find_break(text, raw.count(b"\n", 0, end) + 1):
            raise _damaged(name, broken, str(error)) from error
        raise EarthMindError(f"The record {name!r} can't be read.", found=str(error)) from error
    return data


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _damaged(name: str, parts: list[str], found: str) -> EarthMindError:
    return EarthMindError(
        f"The record {name!r} is not as it was written: {part_words(parts)}.",
        found=found,
        change="a copy of it as it was written",
    )


def unsigned(href: str) -> str:
    """An address without query, fragment, user name and password.

    >>> unsigned("https://me:secret@host/a.tif?sig=abc")
    'https://host/a.tif'
    """
    if "://" not in href or href.lower().startswith("file:"):
        return href
    try:
        parts = urlsplit(href)
    except ValueError:  # no address after all: whatever it holds stays out
        return f"{href.partition('://')[0]}://"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def unsigned_deep(value: Any) -> Any:
    """Plain data in which every address is `unsigned`."""
    if isinstance(value, dict):
        return {key: unsigned_deep(part) for key, part in value.items()}
    if isinstance(value, list):
        return [unsigned_deep(part) for part in value]
    if isinstance(value, str) and value.partition("://")[0].lower() in _REMOTE:
        return unsigned(value)
    return value
