"""Many answers written together against one after the other, and further questions against first.

    python -m tests.benchmarks.bench_seats [--model nano] [--seats 16] [--new 32] [--rounds 3]
        [--only together stages first]

MODEL: ``nano``, a folder, or ``full``: a checkpoint of published size with random weights, written
to a temporary folder. The parts: whole answers together, each stage of several in one call, and the
first token of further questions. Seconds are those of a shared machine and say little; the ratios
are of runs taken in turns on one machine.

The least that a step of decoding has to move are the weights of the language model, once, and the
keys and values of all answers; that per second, against what a plain copy moves, is the share of
the memory's bandwidth.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging

from earthmind_lab.engine.base import Capabilities
from earthmind_lab.engine.local import LocalBackend
from earthmind_lab.engine.writing import LocalState
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor
from tests.benchmarks.full_size import write_checkpoint

QUESTIONS = (
    "What can be seen in this place?",
    "How many buildings are there?",
    "Segment the water.",
    "Is there any snow in this picture, and where would it be?",
)
FORMS = {
    "single picture": (("optical",), Options()),
    "pair, concatenated": (("sar", "optical"), Options(fusion="concatenate")),
    "pair, weighted": (("sar", "optical"), Options(fusion="weighted")),
}

PARTS = ("together", "stages", "first")


def view(modality: str, seed: int, side: int) -> View:
    """A random picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return View(image=pixels, name=modality, modality=modality)  # type: ignore[arg-type]


def prompts(backend: LocalBackend, count: int, *, turn: int) -> list[Prompt]:
    """A pair of its own for each seat."""
    side = backend.processor.config.image_size
    return [
        Prompt(
            text=QUESTIONS[seat % len(QUESTIONS)],
            views=tuple(
                view(modality, 1000 * turn + 2 * seat + n, side)
                for n, modality in enumerate(("sar", "optical"))
            ),
        )
        for seat in range(count)
    ]


def synchronised(backend: LocalBackend) -> float:
    """The clock, once the device is done."""
    if backend.model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def begin(backend: LocalBackend, several: Sequence[Prompt], options: Options) -> list[LocalState]:
    """Answers that have read everything but their first token."""
    states = [backend.prefill(one, options, backend.encode(one.views)) for one in several]
    backend.step(states)
    return states


def decoding(backend: LocalBackend, several: Sequence[Prompt], new: int, together: bool) -> float:
    """Seconds of `new` more tokens for each."""
    options = Options(max_new_tokens=new + 1)
    groups = [several] if together else [[one] for one in several]
    seconds = 0.0
    for group in groups:
        states = begin(backend, group, options)
        start = synchronised(backend)
        for _ in range(new):
            backend.step(states)
        seconds += synchronised(backend) - start
        for state in states:
            backend.release(state)
    return seconds


def answering(backend: LocalBackend, several: Sequence[Prompt], new: int, together: bool) -> float:
    """Seconds of whole answers with one mask each."""
    options = Options(max_new_tokens=new)
    groups = [several] if together else [[one] for one in several]
    start = synchronised(backend)
    for group in groups:
        states = begin(backend, group, options)
        for _ in range(new - 1):
            backend.step(states)
        for state in states:  # random weights write no [SEG]: the last token stands for one
            state.said[-1] = backend.processor.seg_token_id
        backend.segment(states)
        for state in states:
            backend.release(state)
    return synchronised(backend) - start


def answering_first(
    backend: LocalBackend, several: Sequence[Prompt], new: int, together: bool
) -> float:
    """The same about views never seen."""
    backend.cache.clear()
    return answering(backend, several, new, together)


def first_token(
    backend: LocalBackend, prompt: Prompt, options: Options
) -> tuple[float, tuple[int, ...]]:
    """Seconds to the first token; what was encoded and read for it, and for one mask after it."""
    start = synchronised(backend)
    encoded = backend.encode(prompt.views)
    state = backend.prefill(prompt, options, encoded)
    backend.step([state])
    seconds = synchronised(backend) - start
    state.said[-1] = backend.processor.seg_token_id  # random weights write no [SEG]
    backend.segment([state])
    read, text, whole = state.tokens_prefilled, len(state.text), len(state.content)
    backend.release(state)
    return seconds, (encoded.views_encoded, state.sam_encodes, read, text, whole)


def bandwidth(device: torch.device) -> float:
    """Bytes per second that a plain copy moves, read and written."""
    source = torch.ones(1 << (30 if device.type == "cuda" else 27), dtype=torch.uint8).to(device)
    target = torch.empty_like(source)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * source.nbytes / min(times)


def report_together(backend: LocalBackend, seats: int, new: int, rounds: int) -> None:
    """Decoding and whole answers, together and one after the other, in turns."""
    runs = {
        "decode": decoding,
        "answers about new views": answering_first,
        "answers about views seen": answering,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        asked = prompts(backend, seats, turn=turn)
        for name, run in runs.items():
            apart = run(backend, asked, new, False)
            found[name].append((run(backend, asked, new, True), apart))
    for name, pairs in found.items():
        pairs = pairs[1:]  # the first round warms up
        ratio = sorted(apart / together for together, apart in pairs)
        rates = [seats * new / statistics.median(p[side] for p in pairs) for side in (0, 1)]
        print(
            f"{name}: {rates[0]:.0f} tokens/s together, {rates[1]:.0f} one after the other: "
            f"{statistics.median(ratio):.2f} times ({ratio[0]:.2f} to {ratio[-1]:.2f}, "
            f"n={len(ratio)})"
        )
    seconds = statistics.median(together for together, _ in found["decode"][1:]) / new
    report_memory(backend, prompts(backend, seats, turn=1), new, seconds)


def report_memory(backend: LocalBackend, asked: Sequence[Prompt], new: int, seconds: float) -> None:
    """What the answers hold, and how close a step comes to what the memory can move."""
    states = begin(backend, asked, Options(max_new_tokens=new + 1))
    held, device = backend._slots.nbytes, backend.model.device
    positions = sum(state.row.length for state in states if state.row)
    for state in states:
        backend.release(state)
    weights = sum(p.nbytes for p in backend.model.language.parameters())
    moved = weights + positions * backend._slots.position_nbytes
    peak = bandwidth(device)
    print(
        f"a step: {1e3 * seconds:.2f} ms, moves at least {moved / 1e6:.0f} MB: "
        f"{moved / seconds / 1e9:.1f} GB/s, {100 * moved / seconds / peak:.0f} % of a plain copy's"
    )
    needs = sum(backend.needs(one, Options(max_new_tokens=new)) for one in asked)
    line = f"memory: {held / 1e6:.0f} MB of rows, needs {needs / 1e6:.0f} MB said"
    line += f", capacity {backend.capacity() / 1e9:.1f} GB"
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        most = torch.cuda.max_memory_allocated(device)
        line += f", {100 * most / total:.0f} % of the device at the peak, weights included"
    print(line)


def report_batching(backend: LocalBackend, seats: int, rounds: int) -> None:
    """What each stage gains from serving several at once, and whether its bits stay the same."""
    model, config = backend.model, backend.model.config
    make = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        drawn = torch.randn(seats, *shape, generator=make)
        return drawn.to(model.device, model.dtype)

    tokens = 2 * config.tokens_per_tile
    stages = {
        "vision tower": (model.encode_views, some(3, config.image_size, config.image_size)),
        "mask encoder": (
            lambda pixels: model.segment_features(pixels).coarse,
            some(3, config.sam_image_size, config.sam_image_size),
        ),
        f"reading {tokens} tokens": (
            lambda embeds: model.language.model(inputs_embeds=embeds).last_hidden_state,
            some(tokens, config.text_config.hidden_size),
        ),
    }
    for name, (stage, given) in stages.items():
        ratios = []
        for _ in range(rounds + 1):
            start = synchronised(backend)
            apart = torch.cat([stage(one[None]) for one in given])
            middle = synchronised(backend)
            together = stage(given)
            ratios.append((middle - start) / (synchronised(backend) - middle))
        ratios = sorted(ratios[1:])  # the first round warms up
        bits = "the same bits" if torch.equal(apart, together) else "other bits"
        print(
            f"{name}, {seats} in one call: {statistics.median(ratios):.2f} times "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), {bits}"
        )


def report_first(backend: LocalBackend, rounds: int) -> None:
    """Time to the first token of a further question against that of the first one."""
    side = backend.processor.config.image_size
    for name, (modalities, options) in FORMS.items():
        ratios, firsts = [], []
        for turn in range(rounds + 1):
            views = tuple(
                view(modality, 10_000 + 10 * turn + n, side)
                for n, modality in enumerate(modalities)
            )
            prompt = Prompt(text=QUESTIONS[0], views=views)
            backend.cache.clear()
            first, _ = first_token(backend, prompt, options)
            further = [
                first_token(backend, replace(prompt, text=text), options) for text in QUESTIONS[1:]
            ]
            ratios.append(statistics.median(seconds for seconds, _ in further) / first)
            firsts.append(first)
        ratios, firsts = sorted(ratios[1:]), firsts[1:]
        print(
            f"first token, {name}: {1e3 * statistics.median(firsts):.0f} ms; further question "
            f"{statistics.median(ratios):.3f} times that ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
        for _, (views, masks, read, text, whole) in further:
            print(
                f"    {views} views encoded, {masks} for masks, {read} of {whole} tokens read, "
                f"{text} of them text"
            )


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seats", type=int, default=16)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="default: bfloat16 on a GPU, else float32")
    given = parser.parse_args()
    logging.disable_progress_bar()
    dtype = given.dtype or ("bfloat16" if given.device.startswith("cuda") else "float32")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.model
        if folder == "full":
            folder = temporary
            write_checkpoint(Path(folder))
        model = EarthMindForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, dtype)
        )
        processor = EarthMindProcessor.from_pretrained(folder, model.config)
        facts = Capabilities(name=given.model, revision="", weight_hash="", dtype=dtype)
        backend = LocalBackend(model.eval().to(given.device), processor, facts)
        print(
            f"{given.model}, {dtype} on {given.device}, {torch.get_num_threads()} threads, "
            f"{given.seats} seats, {given.new} tokens each"
        )
        if "together" in given.only:
            report_together(backend, given.seats, given.new, given.rounds)
        if "stages" in given.only:
            with torch.inference_mode():
                report_batching(backend, given.seats, given.rounds)
        if "first" in given.only:
            report_first(backend, given.rounds)


if __name__ == "__main__":
    main()
