"""A table of scores: for people as Markdown, for programs as data, on disk whole or not."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from earthmind_lab.errors import EarthMindError
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.metrics import LEAST_UNITS, Interval


class Row(Protocol):
    """What every row of a task has."""

    @property
    def scene(self) -> str:
        """Its name."""

    @property
    def place(self) -> str:
        """Its place."""

    @property
    def training(self) -> str:
        """`walk.Training`."""

    @property
    def away(self) -> str:
        """The site whose pictures were shown in place of its own; empty = none."""


R = TypeVar("R", bound=Row)
_GROUPS = (
    ("scenes that training never drew from", ("no",)),
    ("scenes and places that training drew from", ("yes", "place")),
    ("scenes of which nobody said", ("unknown",)),
)
_ALL = "all scenes"
TWINS = "Cloudy twins, truth of the ground under the clouds"
TWINS_MEAN = "Means over the cloudy twins"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One table of a report."""

    title: str
    lines: Sequence[dict[str, Any]]
    """Column to value; every line has the columns of the first, or fewer."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What an evaluation found."""

    task: str
    model: str
    revision: str
    catalog: str
    control: str | None
    """What was taken away; None = nothing."""
    asked: tuple[str, ...]
    """Classes that the model knows; the others weren't asked."""
    skipped: tuple[str, ...]
    """Scenes that couldn't be read, each with the reason."""
    rows: tuple[Any, ...]
    """Everything that was asked and decided; `presence.Presence` or `landcover.Cover`."""
    parts: tuple[Part, ...]
    """The scores."""

    def part(self, beginning: str) -> list[dict[str, Any]]:
        """The lines of the part whose title begins so; empty where there is none."""
        return [line for part in self.parts if part.title.startswith(beginning)
                for line in part.lines]  # fmt: skip

    def markdown(self) -> str:
        """For people."""
        lines = [f"{self.model}, revision `{self.revision}`, task {self.task}, {self.catalog}"]
        if self.control:
            lines += ["", f"Control: {self.control}."]
        missing = [name for name in CLASSES if name not in self.asked]
        if missing:
            lines += ["", f"Not in the model's words, so not asked: {', '.join(missing)}."]
        if self.skipped:
            lines += ["", "Left out:", "", *(f"- {_cell(each)}" for each in self.skipped)]
        for part in self.parts:
            lines += ["", f"### {part.title}", "", *table_lines(part.lines)]
        lines += ["", f"Intervals: 95 %, bootstrap over places, none below {LEAST_UNITS} places."]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {
            name: getattr(self, name)
            for name in ("task", "model", "revision", "catalog", "control")
        }
        return data | {
            "asked": list(self.asked),
            "skipped": list(self.skipped),
            "parts": [
                {
                    "title": part.title,
                    "lines": [{k: _plain(v) for k, v in line.items()} for line in part.lines],
                }
                for part in self.parts
            ],
            "rows": [{k: _plain(v) for k, v in asdict(row).items()} for row in self.rows],
        }

    def save(self, path: str | Path) -> Path:
        """Write it, as JSON where the name ends so, else as Markdown; all of it or nothing.

        Raises:
            EarthMindError: The file can't be written.
        """
        path = check_file(path)
        as_json = path.suffix == ".json"
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1) if as_json else None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=path.parent, prefix=".earthmind.", delete=False
            ) as draft:
                draft.write((text or self.markdown()) + "\n")
            try:
                Path(draft.name).chmod(0o644)
                Path(draft.name).replace(path)
            except OSError:
                Path(draft.name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _unwritable(path, str(error)) from error
        return path


def check_file(path: str | Path) -> Path:
    """Refuse a file that can't be written before anything costly is done.

    Raises:
        EarthMindError: It is a folder, or lies where nothing can be written.
    """
    path = Path(path)
    try:
        above = next(each for each in path.absolute().parents if each.exists())
        fits = above.is_dir() and os.access(above, os.W_OK | os.X_OK) and not path.is_dir()
    except OSError as error:
        raise _unwritable(path, str(error)) from error
    if not fits:
        raise _unwritable(path, "a folder" if path.is_dir() else f"no right to write in {above}")
    return path


def _unwritable(path: Path, found: str) -> EarthMindError:
    return EarthMindError(
        f"The file {str(path)!r} can't be written.", found=found, change="another --out"
    )


def group_rows(rows: Sequence[R]) -> list[tuple[str, list[R]]]:
    """Rows by what training has seen of them, then all; a group without rows is left out.

    Where there is one group, it is all.
    """
    groups = [(title, [r for r in rows if r.training in kinds]) for title, kinds in _GROUPS]
    found = [(title, group) for title, group in groups if group]
    if len(found) > 1:
        found.append((f"{_ALL}, those that training drew from among them", list(rows)))
    elif found and found[0][1][0].training == "unknown":
        found = [(_ALL, list(rows))]
    return found


def count_scenes(rows: Iterable[Row]) -> int:
    """Scenes among rows; one that was shown with several other places' pictures is one."""
    return len({(row.place, row.scene) for row in rows})


def shown_away(row: Row) -> dict[str, str]:
    """A column for the place whose pictures were shown; none where they were its own."""
    return {"pictures of": row.away} if row.away else {}


def table_lines(lines: Sequence[dict[str, Any]]) -> list[str]:
    r"""A Markdown table.

    >>> table_lines([{"a": 0.5, "b": None}, {"a": "x|y", "b": True}])
    ['| a | b |', '|---|---|', '| 0.50 |  |', '| x\\|y | yes |']
    """
    if not lines:
        return ["Nothing was decided."]
    names = list(dict.fromkeys(name for line in lines for name in line))
    rows = (_line(_cell(line.get(name)) for name in names) for line in lines)
    return [_line(names), "|" + "---|" * len(names), *rows]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    # Names come from a catalog: none may end a cell or begin a tag.
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return value.to_dict()
    return round(value, 4) if isinstance(value, float) else value
