"""Ask a multimodal model about the Earth: optical and SAR scenes on one grid, with evidence.

    import earthmind_lab as em

    # Flooded fields near Orihuela, Spain; the embedded catalog; the embedded model.
    aoi = em.AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
    pairs = em.search_pairs(aoi, dates="2019-09-15/2019-09-20")
    chip = em.load_chip(pairs[0], aoi)               # both sensors on one grid
    answer = em.ask(chip, "Segment the water.")
    answer.to_gdf()                                  # features with mapped areas
    answer.evidence                                  # claims against masks
    answer.save("water.geojson")
    em.replay_record(answer.record).same             # the same again, or which link broke

Names load on first use, so that importing the package stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earthmind_lab.answer import Answer, Claim, Detection
    from earthmind_lab.aoi import AOI
    from earthmind_lab.bands import Band, QualityMask
    from earthmind_lab.checks import doctor
    from earthmind_lab.chip import Chip, ChipSeries, LoadPlan, Radiometry
    from earthmind_lab.conversation import Conversation, PendingAnswer, ask, ask_change
    from earthmind_lab.data.areas import AreaPlan, open_area, plan_area
    from earthmind_lab.data.bundle import open_bundle, save_bundle
    from earthmind_lab.data.change import search_change
    from earthmind_lab.data.frozen import freeze_search
    from earthmind_lab.data.load import load_chip, plan_chip
    from earthmind_lab.data.own_files import open_chip
    from earthmind_lab.data.samples import places
    from earthmind_lab.data.search import search_candidates, search_pairs
    from earthmind_lab.data.series import load_series, plan_series
    from earthmind_lab.data.stretch import scene_stretch
    from earthmind_lab.engine.loading import load_engine
    from earthmind_lab.errors import EarthMindError
    from earthmind_lab.exchange import Options, Region, Reply, View
    from earthmind_lab.record import Record
    from earthmind_lab.replay import Replay
    from earthmind_lab.replay import replay as replay_record
    from earthmind_lab.scene import Candidates, ChangePair, Scene, ScenePair
    from earthmind_lab.sensors import Sensor, add_sensor
    from earthmind_lab.session import Session
    from earthmind_lab.settings import Settings
    from earthmind_lab.widgets.map import EarthMap

__version__ = "0.1.0"

# Where each name lives, and there under another name after a colon. `replay` itself would be
# hidden by the module of that name as soon as anything imports it.
_HOMES = {
    "AOI": "aoi",
    "Answer": "answer",
    "AreaPlan": "data.areas",
    "Band": "bands",
    "Candidates": "scene",
    "ChangePair": "scene",
    "Chip": "chip",
    "ChipSeries": "chip",
    "Claim": "answer",
    "Conversation": "conversation",
    "Detection": "answer",
    "EarthMap": "widgets",
    "EarthMindError": "errors",
    "LoadPlan": "chip",
    "Options": "exchange",
    "PendingAnswer": "conversation",
    "QualityMask": "bands",
    "Radiometry": "chip",
    "Record": "record",
    "Region": "exchange",
    "Replay": "replay",
    "Reply": "exchange",
    "Scene": "scene",
    "ScenePair": "scene",
    "Sensor": "sensors",
    "Session": "session",
    "Settings": "settings",
    "View": "exchange",
    "add_sensor": "sensors",
    "ask": "conversation",
    "ask_change": "conversation",
    "doctor": "checks",
    "freeze_search": "data.frozen",
    "load_chip": "data.load",
    "load_engine": "engine.loading",
    "load_series": "data.series",
    "open_area": "data.areas",
    "open_bundle": "data.bundle",
    "open_chip": "data.own_files",
    "places": "data.samples",
    "plan_area": "data.areas",
    "plan_chip": "data.load",
    "plan_series": "data.series",
    "replay_record": "replay:replay",
    "save_bundle": "data.bundle",
    "scene_stretch": "data.stretch",
    "search_candidates": "data.search",
    "search_change": "data.change",
    "search_pairs": "data.search",
}

__all__ = [
    "AOI",
    "Answer",
    "AreaPlan",
    "Band",
    "Candidates",
    "ChangePair",
    "Chip",
    "ChipSeries",
    "Claim",
    "Conversation",
    "Detection",
    "EarthMap",
    "EarthMindError",
    "LoadPlan",
    "Options",
    "PendingAnswer",
    "QualityMask",
    "Radiometry",
    "Record",
    "Region",
    "Replay",
    "Reply",
    "Scene",
    "ScenePair",
    "Sensor",
    "Session",
    "Settings",
    "View",
    "add_sensor",
    "ask",
    "ask_change",
    "doctor",
    "freeze_search",
    "load_chip",
    "load_engine",
    "load_series",
    "open_area",
    "open_bundle",
    "open_chip",
    "places",
    "plan_area",
    "plan_chip",
    "plan_series",
    "replay_record",
    "save_bundle",
    "scene_stretch",
    "search_candidates",
    "search_change",
    "search_pairs",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, inner = home.partition(":")
    value = getattr(import_module(f"{__name__}.{module}"), inner or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
