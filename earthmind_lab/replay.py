"""Replay: from a record to the same answer, or the first link that broke.

    catalog → scenes → files → grid → pixels → views → model → tokens → masks → answer

Every link is compared with the record in this order. `Replay.differences` begins with the
first one that differs: what comes after it may differ only because of it. Without a network the
very pixels of a record may still lie in the disk cache; then the chain goes on with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.answer import Answer
from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.chip_checks import check_grid
from earthmind_lab.conversation import Conversation
from earthmind_lab.differences import (
    model_differences,
    reply_differences,
    version_differences,
    view_differences,
)
from earthmind_lab.errors import (
    AssetUnavailable,
    CatalogUnavailable,
    EarthMindError,
    GridMismatch,
    ModelNotFound,
    NoScenesFound,
    PromptError,
)
from earthmind_lab.exchange import Options, Turn
from earthmind_lab.grid import grid_data, grid_of
from earthmind_lab.record import Record
from earthmind_lab.record_parts import AFTER, BEFORE, record_of_date
from earthmind_lab.recording import pixel_hash, region_from
from earthmind_lab.scene import Scene, ScenePair

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from earthmind_lab.engine.base import Engine

EMBEDDED = "earthmind-nano"
"""What the model that comes with the package calls itself."""
ANY_GAP = timedelta(days=36500)
"""The pair is known: no limit of the search may lose it now."""
_IDENTITY = ("id", "modality", "collection")
"""What a scene is found again by: an id is unique within its collection only."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What asking again gave."""

    same: bool
    """Whether the answer hash is the record's."""
    differences: tuple[str, ...]
    """Sentences, the first broken link first; may be non-empty although `same` is True: a
    changed library that changed nothing."""
    answer: Answer | None
    """The new answer; None when the chain broke before the model was asked."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the shape of the command line's JSON."""
        return {"same": self.same, "differences": list(self.differences)}


def replay(
    record: Record | str | Path, *, engine: Engine | None = None, chips: Sequence[Chip] = (),
    on_stop: Callable[[Callable[[], None]], None] | None = None,
) -> Replay:  # fmt: skip
    """Ask again what a record asked, on the same pixels.

    Args:
        record: A record or the path of one.
        engine: Who answers; default: the model that the record names.
        chips: At hand, such as those of a bundle: with the record's own among them, neither
            catalog nor file is asked for.
        on_stop: Takes what stops the asking, for who waits on a thread of its own; None = it is
            done by interrupting the cell or the program.

    Raises:
        EarthMindError: The record can't be read.
    """
    record = record if isinstance(record, Record) else read_record(record)
    try:
        return _replay(record, engine, chips, on_stop)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _damaged("The record", error) from error


def read_record(path: str | Path) -> Record:
    """Read a record.

    Raises:
        EarthMindError: Missing, damaged, or of another version.
    """
    try:
        return Record.load(path)
    except TypeError as error:
        raise _damaged(f"The record {str(path)!r}", error) from error


def _damaged(what: str, error: Exception) -> EarthMindError:
    """Records are files that people edit: a field that is gone is no bug of ours."""
    return EarthMindError(
        f"{what} is damaged.",
        found=f"{type(error).__name__}: {error}",
        change="the record.json as it was written",
    )


def _replay(
    record: Record, engine: Engine | None, chips: Sequence[Chip],
    on_stop: Callable[[Callable[[], None]], None] | None,
) -> Replay:  # fmt: skip
    """Follow the chain link by link."""
    found: list[str] = []
    try:
        two = BEFORE in record.chip
        before = _at_date(record, BEFORE, chips, found) if two else None
        subject = (
            _at_date(record, AFTER, chips, found) if two
            else _own(record, chips) or _subject(record, found)
        )  # fmt: skip
        if not isinstance(subject, Chip):
            found += _picture_differences(record, subject)
        elif not two:
            found += _chip_differences(record, subject)
        engine = engine or _engine(record)
        talk = Conversation(
            subject, engine, turns=_turns(record), evidence=False, before=before,
            sensor=record.prompt["views"][0]["modality"] if two else None,
        )  # fmt: skip
        found += [*view_differences(record, talk), *model_differences(record, engine)]
        regions = [region_from(region) for region in record.prompt.get("regions", ())]
        if on_stop is None:
            answer = talk.ask(record.question, regions=regions, options=_options(record))
        else:
            pending = talk.submit(record.question, regions=regions, options=_options(record))
            on_stop(pending.cancel)
            answer = pending.result()
    except EarthMindError as error:
        return Replay(same=False, differences=(*found, _sentence(error)), answer=None)
    found += reply_differences(record, answer.record)
    same = answer.record.answer_hash == record.answer_hash
    if not same and not found:
        found.append("answer: the geometry of the features differs.")
    found += version_differences(record)
    if not record.sealed:
        found.append("record: it has no digests (format 1), so what was changed in it is not seen.")
    return Replay(same=same, differences=tuple(found), answer=answer)


def _at_date(record: Record, date: str, chips: Sequence[Chip], found: list[str]) -> Chip:
    """The chip of one of two dates; what differs names the date."""
    part = record_of_date(record, date)
    said: list[str] = []
    chip = _own(part, chips) or _subject(part, said)
    assert isinstance(chip, Chip)
    said += _chip_differences(part, chip)
    found += [f"{sentence.removesuffix('.')} ({date})." for sentence in said]
    return chip


def _subject(record: Record, found: list[str]) -> Chip | Path:
    """The chip of the record, loaded again, or the path of its picture.

    Args:
        record: What was asked.
        found: Takes the sentence that a server was out of reach, and that the chip is a kept one.
    """
    if record.aoi is None:
        path = record.inputs[0].get("path") if record.inputs else None
        if path is None:
            raise PromptError(
                "picture: the record is of a picture that was not a file.",
                change="ask again with the picture at hand",
            )
        return Path(str(path))
    try:
        return _loaded(record, record.aoi)
    except (CatalogUnavailable, AssetUnavailable) as error:
        from earthmind_lab.data.cache import ChipCache

        if not _remote(record):
            raise  # a file of this machine that is gone is a broken link, not a network
        ids = _ids(record)
        chip = _own(record, ChipCache.from_settings().chips(lambda pair, _: _ids_of(pair) == ids))
        if chip is None:
            raise
        found.append(f"{_sentence(error)} The chip is the one kept on disk.")
        return chip


def _remote(record: Record) -> bool:
    """Whether its files are on a server."""
    hrefs = [str(href) for each in record.inputs for href in each.get("assets", {}).values()]
    return any(href.startswith(("http://", "https://", "s3://")) for href in hrefs)


def _own(record: Record, chips: Iterable[Chip]) -> Chip | None:
    """The chip that the record was made of: the same scenes, grid and pixels."""
    wanted, ids = record.chip.get("grid", {}), _ids(record)
    for chip in chips:
        same = _ids_of(chip.pair) == ids and _same_grid(grid_data(chip.grid), wanted)
        if same and pixel_hash(chip) == record.chip.get("pixel_hash"):
            return chip
    return None


def _ids(record: Record) -> set[tuple[Any, ...]]:
    return {tuple(each.get(key) for key in _IDENTITY) for each in record.inputs}


def _ids_of(pair: ScenePair) -> set[tuple[Any, ...]]:
    return {tuple(getattr(scene, key) for key in _IDENTITY) for scene in pair.scenes}


def _loaded(record: Record, area: Mapping[str, Any]) -> Chip:
    from earthmind_lab.data.load import load_chip, plan_chip

    aoi = AOI.from_geojson(area["geometry"], name=str(area.get("name", "AOI")))
    own = record.chip.get("provenance", {}).get("own_files")
    if own is not None:
        return _own_chip(record, own, aoi)
    pair = _pair(record, aoi)
    bands = record.chip.get("bands") or None
    # A chip of a series lies on the grid of another one, which no gsd gives.
    plan = plan_chip(pair, aoi, bands=bands, grid=_grid(record))
    filtered = record.chip.get("provenance", {}).get("speckle")
    return load_chip(pair, aoi, plan=plan, speckle=filtered)


def _grid(record: Record) -> GeoBox:
    """The grid of the record's chip."""
    try:
        grid = grid_of(record.chip["grid"])
    except RuntimeError as error:  # pyproj's
        raise GridMismatch("grid: the record names no known CRS.", found=str(error)) from error
    check_grid(grid)
    return grid


def _own_chip(record: Record, arguments: Mapping[str, Any], aoi: AOI) -> Chip:
    """The files that the caller had given, opened again as they were declared then."""
    from earthmind_lab.data.own_files import open_chip

    grids = []
    for gsd in (record.chip.get("gsd"), None):
        chip = open_chip(aoi=aoi, gsd=gsd, **arguments)
        if _same_grid(grid_data(chip.grid), record.chip.get("grid", {})):
            return chip
        grids.append(grid_data(chip.grid))
    raise GridMismatch("grid: the chip's grid can't be had again.", found=str(grids[0]))


def _pair(record: Record, aoi: AOI) -> ScenePair:
    """The recorded scenes, found again by collection and id in the recorded catalogs."""
    from earthmind_lab.data.pairing import rank_pairs, rank_scenes

    names = record.search.get("catalog", ())
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    catalog = ", ".join(names)
    optical, sar = (_scene(names, _input_of(record, kind)) for kind in ("optical", "sar"))
    pairs: Sequence[ScenePair]
    if optical and sar:
        pairs = rank_pairs(
            [optical], [sar], aoi, max_gap=ANY_GAP, max_cloud=100.0, catalog=catalog
        )  # fmt: skip
    else:
        alone = [scene for scene in (optical, sar) if scene is not None]
        pairs = rank_scenes(alone, aoi, max_cloud=100.0, catalog=catalog)
    if not pairs:
        raise NoScenesFound("scenes: the recorded scenes no longer reach the AOI.")
    return pairs[0]


def _input_of(record: Record, modality: str) -> Mapping[str, Any] | None:
    return next((each for each in record.inputs if each["modality"] == modality), None)


def _scene(catalogs: Sequence[str], wanted: Mapping[str, Any] | None) -> Scene | None:
    if wanted is None:
        return None
    from earthmind_lab.data.mosaics import join

    items = wanted.get("items", ())
    parts = [wanted] if len(items) < 2 else [{**wanted, "id": item["id"]} for item in items]
    found = [_find(catalogs, part) for part in parts]
    return found[0] if len(found) == 1 else join(found)


def _find(catalogs: Sequence[str], wanted: Mapping[str, Any]) -> Scene:
    from earthmind_lab.data.catalogs import open_catalog

    for name in catalogs:
        for scene in open_catalog(name).find(str(wanted["id"])):
            if all(getattr(scene, key) == wanted[key] for key in _IDENTITY):
                return scene
    raise NoScenesFound(
        f"scenes: the {wanted['modality']} scene {wanted['id']!r} of the collection "
        f"{wanted['collection']!r} is no longer in {', '.join(catalogs) or 'a named catalog'}.",
        change="the catalog as it was",
    )


def _engine(record: Record) -> Engine:
    from earthmind_lab.engine.loading import load_engine

    name = str(record.model.get("name", ""))
    if name == EMBEDDED:
        return load_engine()
    try:
        return load_engine(name)
    except ModelNotFound as error:
        raise ModelNotFound(
            f"The model {name!r} of the record is not at hand.",
            change="engine=load_engine(its folder); on the command line --model FOLDER",
        ) from error


def _turns(record: Record) -> list[Turn]:
    history = record.prompt.get("history", ())
    return [Turn(question=turn["question"], reply=turn["reply"]) for turn in history]


def _options(record: Record) -> Options:
    # Deadline and seat are about the machine and the asker of then, not about the answer.
    known = {field.name for field in fields(Options)} - {"deadline", "seat", "adapter"}
    kept = {k: v for k, v in record.options.items() if k in known}
    # By its hash: an engine finds it under whatever name, or refuses; "" = certainly none.
    return Options(**kept, adapter=str(record.model.get("adapter", {}).get("hash", "")))


def _same_grid(grid: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    same = all(grid.get(key) == wanted.get(key) for key in ("shape", "crs"))
    if not same or len(wanted.get("affine", ())) != 6:
        return False
    pixel = abs(wanted["affine"][0])
    return all(
        abs(a - b) <= 1e-6 * pixel for a, b in zip(grid["affine"], wanted["affine"], strict=True)
    )


def _chip_differences(record: Record, chip: Chip) -> list[str]:
    then = {(r["modality"], r["band"], r["href"]): r for i in record.inputs for r in i["reads"]}
    found = []
    for part in chip.provenance.get("inputs", ()):
        old = next(
            (r for (kind, band, _), r in then.items()
             if kind == part["modality"] and band == part["band"] and r["item"] == part["item"]),
            None,
        )  # fmt: skip
        if old is not None and old.get("sha256") != part.get("sha256"):
            found.append(f"files: the checksum of {part['asset']} of {part['item']} differs.")
    if pixel_hash(chip) != record.chip.get("pixel_hash"):
        found.append("pixels: the chip's pixels differ.")
    return found


def _picture_differences(record: Record, path: Path) -> list[str]:
    from earthmind_lab.recording import file_sha256

    if path.is_file() and file_sha256(path) != record.inputs[0].get("sha256"):
        return [f"files: the checksum of {path} differs."]
    return []


def _sentence(error: EarthMindError) -> str:
    """The link that broke, and why."""
    links = ("catalog", "scenes", "files", "grid", "picture", "model")
    text = str(error)
    if text.partition(":")[0] in links:
        return text
    from earthmind_lab.errors import EngineError, LoadError, SearchError

    link = next(
        (name for kind, name in
         ((SearchError, "catalog"), (LoadError, "files"), (EngineError, "model"))
         if isinstance(error, kind)),
        "prompt",
    )  # fmt: skip
    return f"{link}: {text}"
