"""Map and panels for notebooks: the only part that knows ipyleaflet, leafmap and anywidget.

Each part works alone, on any ipyleaflet or leafmap map, over one session. Names load on first use:
`protocol`, `words`, `rows` and `pair_rows` need none of the map libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import EarthMindError

if TYPE_CHECKING:
    from earthmind_lab.widgets.area_panel import AreaPanel
    from earthmind_lab.widgets.areas import AreaPicker
    from earthmind_lab.widgets.basemap import make_map
    from earthmind_lab.widgets.chat import ChatPanel
    from earthmind_lab.widgets.file_panel import FilePanel
    from earthmind_lab.widgets.keep import KeepPanel
    from earthmind_lab.widgets.layers import ChipLayer
    from earthmind_lab.widgets.map import EarthMap
    from earthmind_lab.widgets.pairs import PairTable
    from earthmind_lab.widgets.probe import ProbePanel
    from earthmind_lab.widgets.timeline import Timeline

_HOMES = {
    "AreaPanel": "area_panel",
    "AreaPicker": "areas",
    "ChatPanel": "chat",
    "ChipLayer": "layers",
    "EarthMap": "map",
    "FilePanel": "file_panel",
    "KeepPanel": "keep",
    "PairTable": "pairs",
    "ProbePanel": "probe",
    "Timeline": "timeline",
    "make_map": "basemap",
}

_LIBRARIES = ("anywidget", "ipyleaflet", "ipywidgets", "traitlets")
"""What every part needs of the extra `lab`."""

__all__ = [
    "AreaPanel",
    "AreaPicker",
    "ChatPanel",
    "ChipLayer",
    "EarthMap",
    "FilePanel",
    "KeepPanel",
    "PairTable",
    "ProbePanel",
    "Timeline",
    "make_map",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _LIBRARIES:
            raise
        raise EarthMindError(
            f"{name} needs the map libraries.",
            found=f"{error.name} is not installed",
            change="pip install 'earthmind_lab[lab,model]'",
        ) from error
