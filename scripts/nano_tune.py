"""The last stage of earthmind-nano: a recipe, run by the package's own trainer.

Examples are made by the package too: `labelled_chips` of whole real scenes and of simulated ones,
as pairs and with one sensor taken away, and beside them counts, clouds and two dates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from nano_data import FALSE_COLOUR, OPAQUE, SAR, VIEWS, Windows, window_of
from nano_plan import TOY, Plan
from nano_text import OF_GROUND, WEIGHTS, change_lines, drawn

from earthmind_lab.chip import Chip
from earthmind_lab.data.simulate_chips import chip_of
from earthmind_lab.data.simulate_store import SimulatedFolder, simulate_many
from earthmind_lab.evaluate.scenes import CASES, Case, Known, load_case
from earthmind_lab.evaluate.truth import PixelTruth
from earthmind_lab.exchange import Modality, Prompt, View
from earthmind_lab.finetune.asks import EVERY_KIND
from earthmind_lab.finetune.asks_beyond import cloud_asks, count_asks
from earthmind_lab.finetune.batches import Joined
from earthmind_lab.finetune.examples import Chosen, Example, ExampleInfo, Examples, Listed
from earthmind_lab.finetune.export import merge
from earthmind_lab.finetune.labelled import labelled_chips
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune
from earthmind_lab.finetune.words import GROUND
from earthmind_lab.render import render

RECIPE = Path(__file__).with_name("nano.yaml")
FIRST_SEED = 400_000
"""Of simulated chips; no other stage draws them."""
PER_CHIP = 12
"""Questions about one chip, kinds by their weights."""
ALIKE = {"which": "compare"}
"""Ids that begin with another word than their kind."""


def tune(work: Path, base: Path, data: Windows, plan: Plan) -> Path:
    """Train by the recipe, or go on; the folder of the adapter."""
    toy = plan is TOY
    cases = {s: [c for c in CASES if c.split == s][: plan.real] for s in ("train", "stop")}
    real = _labelled([partial(_real_chip, case.name) for case in cases["train"]], _Real())
    stop = _labelled([partial(_real_chip, case.name) for case in cases["stop"]], _Real())
    seeds = range(FIRST_SEED, FIRST_SEED + plan.tuned)
    # Drawn once and kept: examples are opened in any order, and anew when this goes on.
    cloudy = simulate_many(seeds, work.parent / "simulated" / "tune", workers=plan.threads)
    bright = simulate_many(seeds[::2], work.parent / "simulated" / "tune_clear", cloudy=False,
                           workers=plan.threads)  # fmt: skip
    simulated, clear = (
        _labelled([partial(_chip, folder, i) for i in range(len(folder))], _Simulated(folder))
        for folder in (cloudy, bright)
    )
    train = Joined(
        [
            (real, 4.0), (_OneSensor(real, "sar"), 1.0), (_OneSensor(real, "optical"), 2.0),
            (simulated, 1.0), (_OneSensor(clear, "sar"), 1.0), (_OneSensor(clear, "optical"), 1.0),
            (_things(cloudy), 1.0), (_dates(data, 2 if toy else 120), 1.0),
        ],
        seed=41,
    )  # fmt: skip
    recipe = Recipe.load(RECIPE).replace(model=str(base))
    if toy:
        recipe = recipe.replace(
            f"steps={plan.tune}", "batch=2", "saving.every=1", "evaluation.every=0", "epochs=1",
        )  # fmt: skip
    else:
        recipe = recipe.replace(f"steps={plan.tune}")
    run = finetune(recipe, out=work, train=train, validation=None if toy else stop)
    if run.adapter is None:
        raise SystemExit("the recipe's stage was stopped; the same command goes on")
    return run.adapter


def export(adapter: Path, base: Path, target: Path) -> None:
    """Write the whole model in half precision; nothing to do where it is."""
    if not target.exists():
        merge(adapter, target, model=base, dtype="bfloat16")


class _Real:
    """Labels of the embedded catalog's scenes, for chips that `load_case` loads."""

    names = GROUND

    def truth(self, chip: Chip) -> PixelTruth:
        return _of_ground(_known(chip.aoi.name).truth)


class _Simulated:
    """Exact truth of simulated chips; their clouds change nothing of the ground."""

    names = GROUND

    def __init__(self, folder: SimulatedFolder) -> None:
        self.folder = folder

    def truth(self, chip: Chip) -> PixelTruth:
        seed = chip.provenance["simulator"]["seed"]
        window = window_of(self.folder[self.folder.seeds.index(seed)])
        return _of_ground(PixelTruth(yes=window.yes, no=window.no))


def _chip(folder: SimulatedFolder, place: int) -> Chip:
    return chip_of(folder[place])


def _of_ground(truth: PixelTruth) -> PixelTruth:
    return PixelTruth(yes=truth.yes[OF_GROUND], no=truth.no[OF_GROUND])


@cache
def _known(name: str) -> Known:
    (case,) = (each for each in CASES if each.name == name)
    found: Case = case
    return load_case(found)


def _real_chip(name: str) -> Chip:
    return _known(name).chip


class _OneSensor:
    """The same examples with the other sensor's views taken away, where any are left."""

    def __init__(self, source: Examples, sensor: Modality) -> None:
        self.source, self.sensor = source, sensor
        self.places = [i for i in range(len(source)) if self._views(source[i].prompt)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        example = self.source[self.places[index]]
        prompt = replace(example.prompt, views=self._views(example.prompt))
        return replace(example, info=self.info(index), prompt=prompt)

    def info(self, index: int) -> ExampleInfo:
        found = self.source.info(self.places[index])
        return replace(found, id=f"{found.id} ({self.sensor})")

    def _views(self, prompt: Prompt) -> tuple[View, ...]:
        return tuple(view for view in prompt.views if view.modality == self.sensor)


def _labelled(chips: Sequence[partial[Chip]], labels: _Real | _Simulated) -> Examples:
    """Questions about chips, a dozen of each."""
    source = labelled_chips(chips, labels, composites=VIEWS, kinds=EVERY_KIND)
    rng, places = np.random.default_rng(41), []
    by_chip: dict[str, dict[str, list[int]]] = {}
    for place in range(len(source)):
        chip, _, ask = source.info(place).id.partition(": ")
        word = re.match(r"\w+", ask)
        kind = ALIKE.get(word[0], word[0]) if word else ""
        by_chip.setdefault(chip, {}).setdefault(kind, []).append(place)
    for kinds in by_chip.values():
        names = list(kinds)
        weights = np.array([WEIGHTS[name] for name in names])
        for _ in range(PER_CHIP):
            options = kinds[names[rng.choice(len(names), p=weights / weights.sum())]]
            places.append(options[rng.integers(len(options))])
    return Chosen(source, sorted(set(places)))


def _things(folder: SimulatedFolder) -> Examples:
    """Counts and clouds of simulated chips."""
    found = []
    for scene in (folder[i] for i in range(len(folder))):
        views = render(chip_of(scene), preferred=VIEWS)
        cloud = float((scene.cloud > OPAQUE).mean())
        seed = scene.seed
        asks = [*count_asks(scene.truth.counts, str(seed), seed=seed)]
        asks += cloud_asks(cloud, str(seed), seed=seed, drawn=False)
        for ask in drawn(asks, np.random.default_rng(seed), 4):
            found.append(_example(f"things {seed} {len(found)}", views, ask.question, ask.reply))
    return Listed(found)


def _dates(data: Windows, count: int) -> Examples:
    """Two dates, by each sensor alone."""
    found, rng = [], np.random.default_rng(41)
    for number in range(count):
        pair = data.draw_dates(rng)
        index, modality = ((SAR, "sar"), (FALSE_COLOUR, "optical"))[number % 2]
        views = tuple(
            View(image=image, name=VIEWS[index], modality=modality)  # type: ignore[arg-type]
            for image in pair.views[:, index]
        )
        for line in change_lines(pair, rng, 4):
            name = f"dates {number} {len(found)}"
            found.append(_example(name, views, line.question, line.answer))
    return Listed(found)


def _example(name: str, views: tuple[View, ...], question: str, reply: str) -> Example:
    info = ExampleInfo(id=name, task="question", licence="CC0-1.0", attribution="simulated")
    return Example(info=info, prompt=Prompt(text=question, views=views), reply=reply)
