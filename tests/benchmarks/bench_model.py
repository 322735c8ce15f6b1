"""Our engine against the published procedure, full size, on the same random weights, in one run.

    python tests/benchmarks/bench_model.py [FOLDER] [--rounds 2]

FOLDER: a checkpoint of `full_size.write_checkpoint`; written to a temporary folder when missing.
Seconds are those of a shared machine and say little; the ratios are of runs taken in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from transformers.utils import logging

from earthmind_lab.engine.base import Capabilities
from earthmind_lab.engine.local import LocalBackend
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor
from tests.benchmarks.full_size import write_checkpoint
from tests.benchmarks.published import answer

SIDE = 448
"""One tile per view: the cheapest question, where caching has least to win."""
NEW = 8
QUESTIONS = ("What can be seen in this place?", "How many buildings are there?")
Seconds = dict[str, float]


def view(modality: str, seed: int) -> View:
    """A random picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return View(image=pixels, name=modality, modality=modality)  # type: ignore[arg-type]


def ask(backend: LocalBackend, prompt: Prompt, options: Options, *, masks: int) -> Seconds:
    """One answer of ours; the same parts as `published.answer`."""
    start = time.perf_counter()
    state = backend.prefill(prompt, options, backend.encode(prompt.views))
    backend.step([state])
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(NEW - 1):
        backend.step([state])
    decode = time.perf_counter() - start
    start = time.perf_counter()
    if masks:  # random weights write no [SEG]: the last tokens stand for some
        state.said[-masks:] = [backend.processor.seg_token_id] * masks
        backend.segment([state])
    mask = time.perf_counter() - start
    backend.release(state)
    return {"first": first, "decode": decode, "mask": mask}


def cases(turn: int) -> dict[str, tuple[tuple[View, ...], Options]]:
    """Views never seen before, so that nothing comes from a cache of an earlier round."""
    optical, sar = view("optical", 2 * turn), view("sar", 2 * turn + 1)
    return {
        "single picture": ((optical,), Options()),
        "pair, concatenated": ((optical, sar), Options(fusion="concatenate")),
        "pair, weighted": ((optical, sar), Options(fusion="weighted")),
    }


def one_round(backend: LocalBackend, turn: int) -> dict[tuple[str, str], tuple[Seconds, Seconds]]:
    """(case, which question) -> ours and the published procedure's seconds."""
    found = {}
    for name, (views, options) in cases(turn).items():
        backend.cache.clear()
        for number, text in zip(("first", "second"), QUESTIONS, strict=True):
            prompt = Prompt(text=text, views=views)
            ours = ask(backend, prompt, options, masks=1)
            theirs = answer(backend.model, backend.processor, prompt, options, new=NEW, masks=1)
            found[name, number] = (ours, theirs)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "config.json").is_file():
            write_checkpoint(folder)
        model = EarthMindForConditionalGeneration.from_pretrained(folder, dtype="auto")
        processor = EarthMindProcessor.from_pretrained(folder, model.config)
        facts = Capabilities(name="full size", revision="random", weight_hash="random")
        backend = LocalBackend(model, processor, dataclasses.replace(facts, dtype="bfloat16"))
        for parameter in model.parameters():  # read from disk once, before anything is timed
            parameter.view(-1)[::512].sum()
        rounds = [one_round(backend, turn) for turn in range(arguments.rounds)]
    print(f"{'':34}{'ours, s':>22}{'published, s':>24}{'ratio':>8}")
    print(
        f"{'':34}{'first  decode  mask':>22}{'first  decode  mask':>24}"
        f"{'first':>8}{'all':>7}{'mask':>7}"
    )
    for key in rounds[0]:
        ours, theirs = (_median([each[key][side] for each in rounds]) for side in (0, 1))
        cells = [f"{s['first']:7.2f}{s['decode']:8.2f}{s['mask']:7.2f}" for s in (ours, theirs)]
        ratios = [
            statistics.median(_ratio(*each[key], part) for each in rounds)
            for part in ("first", "all", "mask")
        ]
        shown = "".join(f"{ratio:7.3f}" for ratio in ratios)
        print(f"{key[0] + ', ' + key[1] + ' question':34}{cells[0]}  {cells[1]} {shown}")


def _median(several: list[Seconds]) -> Seconds:
    return {name: statistics.median(each[name] for each in several) for name in several[0]}


def _ratio(ours: Seconds, theirs: Seconds, part: str) -> float:
    if part == "all":
        return sum(ours.values()) / sum(theirs.values())
    return ours[part] / theirs[part]


if __name__ == "__main__":
    main()
