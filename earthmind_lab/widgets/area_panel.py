"""AreaPanel: the areas of a session, and every way to a new one but the mouse.

`AreaPanel(session)` as the last line of a cell shows it; beside a map, `AreaPicker` makes it.
Each of its buttons is one call: `session.draw`, `edit`, `rename`, `restore`, `delete`, `select`,
`open_place`, `unmark`; of the map's tools `take_view` and `mode`.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import traitlets

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.data.samples import places
from earthmind_lab.errors import AOIError, PromptError
from earthmind_lab.session.subject import Note
from earthmind_lab.vector_features import MAX_BYTES, VectorFeature, names_for
from earthmind_lab.vector_files import FORMATS, features_of, layers_of
from earthmind_lab.widgets.area_rows import area_row, feature_rows, region_row, sees
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.file_panel import FORMATS as RASTERS
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.uploads import PIECE, Uploads

if TYPE_CHECKING:
    from earthmind_lab.session import Session

Mode: TypeAlias = Literal["area", "region"]
"""What a shape drawn on the map becomes."""
_PASTED = "pasted.geojson"


class MapTools(Protocol):
    """What the panel needs of a map; `AreaPicker` is one."""

    mode: Mode

    def select(self, name: str) -> None:
        """Make a subject the active one, and fly there even where it is already."""

    def open_place(self, name: str) -> str:
        """Open a sample place, and fly there."""

    def take_view(self, *, replace: bool = False) -> str:
        """An area of what the map shows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choice:
    """A file with several features, of which the user has yet to choose."""

    ident: str
    filename: str
    content: Path | bytes
    layers: tuple[str, ...]
    layer: str | None
    features: tuple[VectorFeature, ...]


class AreaPanel(SessionWidget):
    """Areas by name, with their versions and regions; forms for new ones.

    Args:
        session: Whose areas they are; what is done from Python or on a map appears too.
        tools: Of the map beside it; None = no map: nothing to take a view from.

    Raises:
        EarthMindError: The browser side was never built.
    """

    areas: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`area_rows.area_row` of each subject."""
    active = traitlets.Unicode().tag(sync=True)
    """Name of the active subject; empty where there is none."""
    regions: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`area_rows.region_row` of each region of the active AOI."""
    places: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """Sample places: ``name``, ``title``, ``why``."""
    mode = traitlets.Unicode("area").tag(sync=True)
    """What the map's tools draw; see `Mode`."""
    choice = traitlets.Dict().tag(sync=True)
    """A file to choose from: ``upload``, ``file``, ``layer``, ``layers``, ``rows``; or empty."""
    about = traitlets.Dict().tag(sync=True)
    """``map`` (there is one), ``formats``, ``most`` (bytes of a file), ``piece`` (of a message)."""

    def __init__(self, session: Session, tools: MapTools | None = None) -> None:
        super().__init__(session, "areas")
        self._tools = tools
        self._uploads = Uploads(FORMATS, MAX_BYTES)
        weakref.finalize(self, self._uploads.close)
        self._choice: _Choice | None = None
        self._numbers = itertools.count(1)
        self.places = [
            {"name": each.name, "title": each.title, "why": each.why} for each in places()
        ]
        self.about = {
            "map": tools is not None, "formats": list(FORMATS), "most": MAX_BYTES, "piece": PIECE,
        }  # fmt: skip
        self._begin()

    def tell(self, fault: str) -> None:
        """Say what went wrong elsewhere, on the map; "" = nothing any more. Any thread."""
        self._inbox.put(Note(kind="error", message=fault))

    def refresh(self) -> None:
        """Show the state as it is now; soon, from any thread."""
        self._inbox.put(Note(kind="changed"))

    def close(self) -> None:
        """Stop listening, forget files; the session goes on. Twice does no harm."""
        super().close()
        if hasattr(self, "_uploads"):
            self._uploads.close()

    # --- what a user does ------------------------------------------------------------------------

    def _note(self, note: Note) -> None:
        if note.kind == "changed":
            self._soon()
        elif note.kind == "error" and note.subject is None and note.message != self.fault:
            self._fail(note.message)

    def _message(self, message: FromBrowser) -> str | None:
        given = {key: value for key, value in message.items() if key != "kind"}
        act = getattr(self, f"_on_{message['kind']}", None)
        if act is None:
            return f"A list of areas has nothing to {message['kind']}."
        said: str | None = act(**given)
        return said

    def _on_hello(self) -> str:
        return ""

    def _on_select(self, name: str) -> str:
        (self._tools or self.session).select(name)
        return ""

    def _on_place(self, place: str) -> str:
        return f"{(self._tools or self.session).open_place(place)} is open."

    def _on_delete(self, name: str) -> str:
        self.session.delete(name)
        return f"{name} was deleted; Undo brings it back."

    def _on_rename(self, name: str, new: str) -> str:
        self.session.rename(name, new.strip())
        return f"{name} is now called {new.strip()}."

    def _on_restore(self, name: str, version: int) -> str:
        self.session.restore(name, version)
        return f"{name} is as in version {version}."

    def _on_undo(self) -> str:
        return "Nothing to undo." if self.session.undo() is None else "Undone."

    def _on_unmark(self, region: str) -> str:
        self.session.unmark(region)
        return "The region was removed."

    def _on_mode(self, mode: Mode) -> str:
        self._map_tools().mode = mode
        return f"Shapes drawn on the map are now {mode}s."

    def _on_view(self, *, replace: bool) -> str:
        return self._held(self._map_tools().take_view(replace=replace), replace=replace)

    def _on_box(
        self, west: float, south: float, east: float, north: float, *, replace: bool
    ) -> str:
        return self._add(AOI.from_bbox(west, south, east, north), replace=replace)

    def _on_square(self, lat: float, lon: float, km: float, *, replace: bool) -> str:
        return self._add(AOI.from_center(lon, lat, km), replace=replace)

    def _on_paste(self, text: str, *, replace: bool) -> str:
        if not text.strip():
            raise AOIError("There is nothing to add.", change="W,S,E,N in degrees, or GeoJSON")
        if replace or not text.lstrip().startswith("{"):
            return self._add(text, replace=replace)
        return self._offer(f"paste-{next(self._numbers)}", _PASTED, text.encode())

    # --- files -----------------------------------------------------------------------------------

    def _on_upload(self, upload: str, name: str, size: int) -> str:
        self._over(upload, lambda: self._upload(upload, clean(name), size))
        self.send({"kind": "received", "upload": upload, "size": 0})
        return ""

    def _upload(self, upload: str, name: str, size: int) -> None:
        if name.lower().endswith(RASTERS):
            raise PromptError(
                f"{name[:80]!r} holds no areas but pixels.",
                change="drop it under “Your own files”; in Python: session.open_files(path)",
            )
        self._uploads.begin(upload, name, size)

    def _on_piece(self, upload: str, at: int) -> str | None:
        piece = self._binary[0] if self._binary else b""
        file = self._over(upload, lambda: self._uploads.add(upload, at, piece))
        self.send({"kind": "received", "upload": upload, "size": file.received})
        if not file.done:
            return None
        try:
            return self._offer(upload, file.name, file.path)
        finally:
            if self._choice is None or self._choice.ident != upload:
                self._uploads.drop(upload)
            self.send({"kind": "settled", "upload": upload})

    def _on_drop(self, upload: str) -> str:
        held = self._choice is not None and self._choice.ident == upload
        if held:
            self._choice = None
        dropped = self._uploads.drop(upload)
        self.send({"kind": "settled", "upload": upload})
        return "The file was put away." if held or dropped else ""

    def _on_layer(self, upload: str, layer: str) -> str:
        choice = self._chosen(upload)
        return self._offer(upload, choice.filename, choice.content, layer)

    def _on_take(self, upload: str, features: Sequence[int]) -> str:
        choice = self._chosen(upload)
        if not features or max(features) >= len(choice.features):
            raise AOIError("No area of the file is chosen.", change="mark at least one")
        names = names_for(choice.features, choice.filename)
        # All or none: what makes no area is found before the first is drawn.
        aois = [AOI(geometry=choice.features[n].geometry, name=names[n]) for n in features]
        for aoi in aois:
            self._draw(aoi)
        self._on_drop(upload)
        return f"{len(aois)} areas were added." if len(aois) > 1 else f"{aois[0].name} was added."

    def _offer(
        self, ident: str, filename: str, content: Path | bytes, layer: str | None = None
    ) -> str:
        """One feature becomes an area at once; several are shown to choose from."""
        layers = layers_of(content, filename)
        layer = layer or next(iter(layers), None)
        features = features_of(content, filename, layer)
        if len(features) == 1 and len(layers) < 2:
            name = names_for(features, filename)[0]
            return f"{self._draw(AOI(geometry=features[0].geometry, name=name))} was added."
        if self._choice is not None and self._choice.ident != ident:
            self._uploads.drop(self._choice.ident)
        self._choice = _Choice(
            ident=ident, filename=filename, content=content, layers=layers, layer=layer,
            features=features,
        )  # fmt: skip
        return f"{filename} holds {len(features)} areas: choose."

    def _chosen(self, upload: str) -> _Choice:
        if self._choice is None or self._choice.ident != upload:
            raise AOIError("This file is not here any more.", change="upload it once more")
        return self._choice

    def _over(self, upload: str, act: Any) -> Any:
        """Do something to an upload; where that fails, the browser stops sending."""
        try:
            return act()
        except Exception:
            self.send({"kind": "settled", "upload": upload})
            raise

    # --- parts -----------------------------------------------------------------------------------

    def _map_tools(self) -> MapTools:
        if self._tools is None:
            raise PromptError("There is no map beside this list.", change="EarthMap(session)")
        return self._tools

    def _add(self, geometry: AOILike, *, replace: bool) -> str:
        aoi = AOI.from_any(geometry)
        if replace:
            name = self.session.subject().name
            self.session.edit(name, aoi)
        else:
            # Only a file has names of its own.
            name = self.session.draw(aoi) if aoi.name == "AOI" else self._draw(aoi)
        return self._held(name, replace=replace)

    def _held(self, name: str, *, replace: bool) -> str:
        return f"{name} has a new outline." if replace else f"{name} was added."

    def _draw(self, aoi: AOI) -> str:
        """A new area under its own name, or that and a number."""
        names = itertools.chain([aoi.name], (f"{aoi.name[:70]} {n}" for n in itertools.count(2)))
        held = self.session.subjects
        return self.session.draw(aoi, next(name for name in names if name not in held))

    # --- what is shown ---------------------------------------------------------------------------

    def _flush(self) -> None:
        subjects, active = self.session.subjects, self.session.active
        model, most = sees(self.session.engine)
        now = subjects.get(active or "")
        with self.hold_sync():
            self.areas = [area_row(each, model, most) for each in subjects.values()]
            self.active = clean(active or "")
            self.regions = [region_row(each) for each in now.regions] if now else []
            self.mode = self._tools.mode if self._tools is not None else "area"
            self.choice = self._choice_row(model, most)

    def _choice_row(self, model: str, most: int | None) -> dict[str, Any]:
        choice = self._choice
        if choice is None:
            return {}
        return {
            "upload": choice.ident,
            "file": clean(choice.filename),
            "layer": clean(choice.layer or ""),
            "layers": [clean(layer) for layer in choice.layers],
            "rows": feature_rows(choice.features, choice.filename, model, most),
        }
