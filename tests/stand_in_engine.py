"""A deterministic engine for unit tests: it says what it is told and marks the masks it is given.

It keeps the promises of `earthmind_lab.engine.base.Engine` and nothing else; no answer in the
package ever comes from here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, Radiometry
from earthmind_lab.engine.base import Capabilities, Stats
from earthmind_lab.errors import Cancelled, EarthMindError
from earthmind_lab.exchange import (
    Done,
    Event,
    Failed,
    Found,
    Options,
    Prompt,
    Queued,
    Reply,
    Token,
    Usage,
    View,
)
from earthmind_lab.scene import Scene, ScenePair

NOTICE = "stand-in: a test double, not a model"
Mask = NDArray[np.bool_]
Drawn = Mask | Callable[[tuple[int, int]], Mask]
"""A mask, or what makes one from the (H, W) of the views."""


class StandInHandle:
    """An ask that ends when `gate` opens."""

    def __init__(self, number: int, make: Callable[[], Reply], gate: threading.Event) -> None:
        self.id = f"ask{number}"
        self._make, self._gate = make, gate
        self._cancelled = threading.Event()

    def events(self) -> Iterator[Event]:
        yield Queued(ask=self.id, position=0)
        try:
            reply = self.result()
        except EarthMindError as error:
            yield Failed(ask=self.id, error=error)
            return
        for word in reply.text.split():
            yield Token(ask=self.id, text=word + " ")
        yield Done(ask=self.id, reply=reply)

    def result(self, timeout: float | None = None) -> Reply:
        while not self._gate.wait(0.005):
            if self._cancelled.is_set():
                break
        if self._cancelled.is_set():
            raise Cancelled("The ask was stopped.")
        return self._make()

    def cancel(self) -> None:
        self._cancelled.set()


class StandInEngine:
    """Says `texts[question]` where there is one, and marks `masks[label]` when asked to segment.

    Args:
        masks: Label to (H, W) mask; a label without one is denied.
        texts: Question to reply; the reply marks the masks that `marks` names for it.
        marks: Question to labels marked with the reply.
        view: Index of the view that draws.
        tile_px: What the model sees at once.
        gate: Replies wait for it.
    """

    name = "stand-in"

    def __init__(
        self,
        masks: Mapping[str, Drawn] | None = None,
        texts: Mapping[str, str] | None = None,
        *,
        marks: Mapping[str, tuple[str, ...]] | None = None,
        view: int = 0,
        tile_px: int = 10_000,
        gate: threading.Event | None = None,
        weight_hash: str = "a" * 64,
    ) -> None:
        self.masks, self.texts, self.marks = masks or {}, texts or {}, marks or {}
        self.capabilities = Capabilities(
            name=self.name, revision=weight_hash[:12], weight_hash=weight_hash, notice=NOTICE,
            licence="Apache-2.0",
        )  # fmt: skip
        self.revision = self.capabilities.revision
        self._view, self._tile = view, tile_px
        self._gate = gate or threading.Event()
        if gate is None:
            self._gate.set()
        self.prompts: list[Prompt] = []
        self.seats: list[str] = []

    def submit(self, prompt: Prompt, options: Options | None = None) -> StandInHandle:
        self.prompts.append(prompt)
        self.seats.append(options.seat if options else "")
        return StandInHandle(len(self.prompts), lambda: self._reply(prompt), self._gate)

    def generate(self, prompt: Prompt, options: Options | None = None) -> Reply:
        return self.submit(prompt, options).result()

    def seen_gsd(self, view: View) -> float | None:
        return None if view.gsd is None else view.gsd * max(1.0, max(view.shape) / self._tile)

    def stats(self) -> Stats:
        return Stats(done=len(self.prompts))

    def close(self) -> None:
        pass

    def _reply(self, prompt: Prompt) -> Reply:
        asked = re.match(r"Segment (?:the )?(.+?)\.$", prompt.text)
        shape = prompt.views[0].shape
        if prompt.text in self.texts:
            return self._made(self.texts[prompt.text], self.marks.get(prompt.text, ()), shape)
        if asked and asked[1] in self.masks:
            return self._made(f"Sure, the {asked[1]}.", (asked[1],), shape)
        if asked:
            return self._made(f"There is no {asked[1]} here.", (), shape)
        return self._made("I can't tell.", (), shape)

    def _made(self, text: str, labels: tuple[str, ...], shape: tuple[int, int]) -> Reply:
        drawn = [(label, self.masks[label]) for label in labels]
        masks = [(label, mask(shape) if callable(mask) else mask) for label, mask in drawn]
        objects = tuple(
            Found(
                label=label, score=0.9, view=self._view,
                mask_logits=np.where(mask, 4.0, -4.0).astype(np.float32),
            )
            for label, mask in masks
        )  # fmt: skip
        ids = tuple(text.encode())
        return Reply(text=text, objects=objects, token_ids=ids, usage=Usage(tokens_new=len(ids)))


def square(shape: tuple[int, int], *corners: tuple[int, int, int, int]) -> Mask:
    """(H, W) True inside each (row0, row1, column0, column1)."""
    mask = np.zeros(shape, dtype=bool)
    for row0, row1, column0, column1 in corners:
        mask[row0:row1, column0:column1] = True
    return mask


def make_scene(modality: str, **changes: object) -> Scene:
    when = datetime(2020, 6, 1 if modality == "optical" else 2, 10, tzinfo=UTC)
    fields: dict[str, object] = {
        "id": f"{modality}-1",
        "sensor": "sentinel-2-l2a" if modality == "optical" else "sentinel-1-rtc",
        "modality": modality,
        "datetime": when,
        "start": when,
        "end": when,
        "footprint": box(-1, 38, 0, 39),
        "assets": {"red": f"https://user:key@host/{modality}.tif?sig=SECRET"},
        "items": (
            {
                "id": f"{modality}-1",
                "properties": {"license": "CC-BY-4.0", "updated": "2020-06-03T00:00:00Z"},
            },
        ),
    }
    return Scene(**{**fields, **changes})  # type: ignore[arg-type]


def make_chip(
    side: int = 40, *, inside: Mask | None = None, water: Mask | None = None, sar: bool = True
) -> Chip:
    """A chip of dry land with open water where `water` says so: NDWI and VV both see it."""
    shape = (side, side)
    wet = np.zeros(shape, dtype=bool) if water is None else water
    grid = GeoBox(shape, Affine(10, 0, 700_000, 0, -10, 4_220_000), "EPSG:32630")
    dry, sea = (0.08, 0.10, 0.12, 0.30), (0.06, 0.08, 0.05, 0.02)
    optical = np.stack([np.where(wet, w, d) for d, w in zip(dry, sea, strict=True)])
    radar = np.stack([np.where(wet, -22.0, -9.0), np.where(wet, -28.0, -15.0)])
    to_lonlat = Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True)
    left, bottom, right, top = to_lonlat.transform_bounds(
        700_000, 4_220_000 - 10 * side, 700_000 + 10 * side, 4_220_000
    )
    pair = ScenePair(
        optical=make_scene("optical"),
        sar=make_scene("sar") if sar else None,
        gap=timedelta(days=1) if sar else None,
        overlap=1.0,
        cloud_in_aoi=0.0,
        score=80.0,
        factors={"V": 1.0},
        catalog="sample",
    )
    inputs = [
        {
            "modality": scene.modality, "band": "red", "scene": scene.id, "item": scene.id,
            "asset": "red", "href": scene.assets["red"], "sha256": "0" * 64,
            "licence": "CC-BY-4.0", "attribution": f"contains {scene.modality} data",
        }
        for scene in pair.scenes
    ]  # fmt: skip
    return Chip(
        grid=grid,
        optical=optical.astype(np.float32),
        sar=radar.astype(np.float32) if sar else None,
        bands=("blue", "green", "red", "nir"),
        polarisations=("vv", "vh") if sar else (),
        valid_optical=np.ones(shape, dtype=bool),
        valid_sar=np.ones(shape, dtype=bool) if sar else None,
        inside=np.ones(shape, dtype=bool) if inside is None else inside,
        radiometry=Radiometry(
            level="SR",
            offset_applied=-0.1,
            quantity="gamma0_rtc" if sar else None,
            geometry="terrain_corrected" if sar else None,
            noise_floor_db={"vv": -50.0, "vh": -50.0} if sar else {},
        ),
        pair=pair,
        aoi=AOI(geometry=box(left, bottom, right, top), name="test"),
        provenance={"inputs": inputs, "attribution": ["contains data"], "resampling": {}},
    )
