"""stac-geoparquet: a whole catalog in one file, of which only the rows that can match are read.

    ParquetCatalog.open("items.parquet").search(aoi, start, end)

Box and times are compared by Arrow, row group by row group, before a row becomes an item;
hrefs start at the folder of the file. https://github.com/radiantearth/stac-geoparquet-spec
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.aoi import AOI
from earthmind_lab.data.items import note, scenes_or_problem, shares_area
from earthmind_lab.data.known import READABLE
from earthmind_lab.errors import CatalogUnavailable
from earthmind_lab.scene import Scene

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.dataset import Dataset, Expression

SUFFIXES = (".parquet", ".geoparquet")
ROWS = 256
"""Rows that become items at a time: items with all their assets take far more than rows."""
LISTED = 5000
"""A file with more rows isn't read whole to say what is nearest to an AOI."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ParquetCatalog:
    """A stac-geoparquet file; every search reads what it needs of it."""

    name: str
    """The absolute path."""
    rows: Dataset
    """Its table, not yet read."""
    listed: bool
    """Whether it is small enough to be read whole."""
    broken: list[str] = field(default_factory=list)
    """Items that could not be read, one sentence each."""
    cuts: tuple[str, ...] = ()
    """Empty: a file answers in full."""

    @classmethod
    def open(cls, path: Path) -> ParquetCatalog:
        """Look at the header of a file.

        Raises:
            CatalogUnavailable: It is no Parquet file, or its columns are not those of STAC items;
                or the libraries that read it are missing.
        """
        path = path.absolute()
        arrow = _arrow()
        with _readable(path):
            rows = arrow.dataset(path, format="parquet")
            lacking = {"id", "geometry", "assets"} - set(rows.schema.names)
            count = rows.count_rows()
        if lacking:
            raise CatalogUnavailable(
                f"The file {str(path)!r} holds no STAC items.",
                found=f"no column {' or '.join(sorted(lacking))}",
                change=READABLE,
            )
        return cls(name=str(path), rows=rows, listed=count <= LISTED)

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read so far, one sentence each."""
        return tuple(dict.fromkeys(self.broken))

    def search(
        self,
        aoi: AOI | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        modality: str | None = None,
    ) -> list[Scene]:
        """Scenes that meet the AOI and the times.

        Args:
            aoi: Area that the footprint must share with, by more than an edge; None = anywhere.
            start: Earliest time, UTC, inclusive; None = open.
            end: Latest time, UTC, inclusive; None = open. An unknown time must meet the range.
            modality: ``optical``, ``sar``, or the key of one sensor; None = both.

        Raises:
            CatalogUnavailable: The file can't be read any more.
        """
        tests = [*_in_box(self.rows.schema, aoi), *_in_time(self.rows.schema, start, end)]
        return [
            scene
            for scene in self._scenes(functools.reduce(operator.and_, tests) if tests else None)
            if modality in (None, scene.modality, scene.sensor)
            and (start is None or scene.end >= start)
            and (end is None or scene.start <= end)
            and (aoi is None or shares_area(scene.footprint, aoi.geometry))
        ]

    def near(self, aoi: AOI, _start: datetime, _end: datetime, modality: str, /) -> list[Scene]:
        """Every scene of an AOI: the file is at hand."""
        return self.search(aoi, modality=modality)

    def find(self, scene_id: str) -> list[Scene]:
        """Scenes of this id, in any collection.

        Raises:
            CatalogUnavailable: The file can't be read any more.
        """
        from pyarrow.dataset import field as column

        return self._scenes(column("id") == scene_id)

    def _scenes(self, test: Expression | None) -> list[Scene]:
        scenes: list[Scene] = []
        for item in self._items(test):
            scenes += scenes_or_problem(item, Path(self.name), self.broken)
        return sorted(scenes, key=lambda scene: (scene.id, scene.sensor, scene.collection or ""))

    def _items(self, test: Expression | None) -> Iterator[Mapping[str, Any]]:
        with _readable(Path(self.name)):
            for batch in self.rows.to_batches(filter=test, batch_size=ROWS, batch_readahead=1):
                yield from self._batch(batch)

    def _batch(self, batch: pa.RecordBatch) -> Iterator[Mapping[str, Any]]:
        """The items of some rows; where one can't be read, the others are read by themselves."""
        import pyarrow as pa
        from stac_geoparquet.arrow import stac_table_to_items

        try:
            items = list(stac_table_to_items(pa.Table.from_batches([batch])))
        except Exception as error:  # noqa: BLE001 - the converter lets anything out
            if batch.num_rows > 1:
                for row in range(batch.num_rows):
                    yield from self._batch(batch.slice(row, 1))
            else:
                name = Path(self.name).name
                note(self.broken, f"A row of {name} is left out: {type(error).__name__}: {error}")
            return
        yield from map(_said, items)


def _arrow() -> Any:
    """`pyarrow.dataset`, where everything that reads items is installed."""
    try:
        import pyarrow.dataset as arrow
        import stac_geoparquet.arrow  # noqa: F401  needed later: say so at once
    except ImportError as error:
        raise CatalogUnavailable(
            "A stac-geoparquet file needs libraries that are not installed.",
            found=str(error),
            change="pip install 'earthmind-lab[parquet]'",
        ) from error
    return arrow


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What Arrow says of a file that is none, or that is broken, as our error."""
    from pyarrow.lib import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError) as error:
        raise CatalogUnavailable(
            f"The Parquet file {str(path)!r} can't be read.",
            found=str(error)[:500],
            change="fetch the file again, or name another catalog",
        ) from error


def _in_box(schema: pa.Schema, aoi: AOI | None) -> list[Expression]:
    """Rows whose bbox can meet an AOI; one across the antimeridian (xmin > xmax) always can."""
    import pyarrow as pa
    from pyarrow.dataset import field as column

    kind = schema.field("bbox").type if "bbox" in schema.names else pa.null()
    edges = ("xmin", "ymin", "xmax", "ymax")
    named = pa.types.is_struct(kind) and all(kind.get_field_index(edge) >= 0 for edge in edges)
    if aoi is None or not named:
        return []
    xmin, ymin, xmax, ymax = (column("bbox", edge) for edge in edges)
    west, south, east, north = aoi.bounds
    across = xmin > xmax
    apart = (xmin > east) | (xmax < west)
    return [column("bbox").is_null() | ((across | ~apart) & (ymin <= north) & (ymax >= south))]


def _in_time(
    schema: pa.Schema, start: datetime | None, end: datetime | None
) -> Iterator[Expression]:
    """Rows whose times can meet the range: an instant, or an interval where that is unknown."""
    import pyarrow as pa
    from pyarrow.dataset import field as column

    names = [n for n in ("datetime", "start_datetime", "end_datetime") if n in schema.names]
    if not names or not all(pa.types.is_timestamp(schema.field(name).type) for name in names):
        return
    if start is not None:
        late = (column(n) >= start for n in names if n != "start_datetime")
        yield functools.reduce(operator.or_, late)
    if end is not None:
        early = (column(n) <= end for n in names if n != "end_datetime")
        yield functools.reduce(operator.or_, early)


def _said(value: Any) -> Any:
    """A value without the members that are null: a table gives every row every column."""
    if isinstance(value, Mapping):
        return {name: _said(part) for name, part in value.items() if part is not None}
    return [_said(part) for part in value] if isinstance(value, list) else value
