"""What bfloat16 changes against float32 on the same weights: logits, and the first other token.

    python -m tests.benchmarks.bench_bfloat16

On the questions of the reference runs (random small EarthMind of every part; logits of untrained
weights lie close together, so answers part early) and of nano about a real chip. Greedy.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

import earthmind_lab as em
from earthmind_lab.data.samples import place
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor, collate
from earthmind_lab.render import render
from tests.model.parity import CASES, Run, base, build

WRITTEN = 24
NANO = ("Is there any water?", "What covers most of the ground?", "Describe the image.")


def greedy(model: EarthMindForConditionalGeneration, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Written ids, and the logits of each step in float32."""
    with torch.inference_mode():
        found = model.generate(
            **inputs,
            max_new_tokens=WRITTEN,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return [found.sequences[0, inputs["input_ids"].shape[1] :], torch.cat(found.logits).float()]


def compare(
    full: EarthMindForConditionalGeneration,
    half: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
    asked: Sequence[tuple[str, Prompt, Options]],
) -> Iterator[str]:
    """A line per question."""
    apart = []
    for name, prompt, options in asked:
        inputs = collate(processor, [prompt], options)
        (ids, logits), (other, rounded) = greedy(full, inputs), greedy(half, inputs)
        alike = min(len(ids), len(other))
        first = next((k for k in range(alike) if ids[k] != other[k]), None)
        seen = alike if first is None else first + 1  # the same was read up to here
        difference = (logits[:seen] - rounded[:seen]).abs()
        apart.append(difference.max().item())
        where = "none"
        if first is not None:
            margin = logits[first, ids[first]] - logits[first, other[first]]
            where = f"{first + 1}, where float32 prefers its own by {margin:.3f}"
        yield (
            f"{name}: logits off by {difference.max():.3f} at most, {difference.mean():.4f} on "
            f"average (spread {logits[:seen].std():.2f}); first other token of {alike}: {where}"
        )
    yield f"median of the largest difference: {statistics.median(apart):.3f} (n={len(apart)})"


def main() -> None:
    """Print a block per model."""
    for stem in sorted({stem for stem, _ in CASES}):
        model, processor = build(stem, "sdpa")
        half, _ = build(stem, "sdpa")
        runs = [Run(s, name, model, processor) for s, name in CASES if s == stem]
        asked = [(r.name, r.prompt, r.options) for r in runs if "text" in r.case]
        print(f"## {stem}" + (f" (weights of {base(stem)})" if base(stem) != stem else ""))
        print(*compare(model, half.bfloat16(), processor, asked), sep="\n")
    spain = place("spain")
    aoi = em.AOI.from_bbox(*spain.bbox)
    views = render(em.load_chip(em.search_pairs(aoi, spain.dates)[0], aoi))
    model, half = (
        EarthMindForConditionalGeneration.from_pretrained("nano", dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    processor = EarthMindProcessor.from_pretrained("nano", model.config)
    asked = [(text, Prompt(text=text, views=views), Options()) for text in NANO]
    print("## nano, a chip in Spain")
    print(*compare(model, half, processor, asked), sep="\n")


if __name__ == "__main__":
    main()
