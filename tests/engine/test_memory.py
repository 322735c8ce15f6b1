"""What an ask is said to take, against what torch counts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from earthmind_lab.engine import device, memory
from earthmind_lab.engine.local import LocalBackend
from earthmind_lab.engine.room import Room
from earthmind_lab.engine.slots import rounded
from earthmind_lab.errors import OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.model import EarthMindConfig
from earthmind_lab.model.memory import ITEMSIZE, NEW, QUESTION, Sizes, pair_bytes
from tests.benchmarks.full_size import listed
from tests.engine import tiny
from tests.engine.meter import Meter
from tests.engine.test_company import backend

PICTURE = Prompt(text="Segment the water.", views=(tiny.view("sar", seed=3),))


@pytest.mark.parametrize("fusion", ["concatenate", "weighted"])
def test_an_ask_stays_within_what_it_needs(tiny_folder: Path, fusion: Any) -> None:
    raw = backend(tiny_folder)
    views = (tiny.view("optical", seed=1), tiny.view("sar", seed=2))
    prompt, options = Prompt(text="Segment it.", views=views), Options(fusion=fusion)
    needed = raw.needs(prompt, options)
    left = []
    with torch.inference_mode(), Meter() as meter:
        for _ in range(3):
            state = raw.prefill(prompt, options, raw.encode(views))
            held = raw._slots.nbytes
            for _ in range(options.max_new_tokens):
                raw.step([state])
            assert raw._slots.nbytes == held, "what was said is what it takes to the end"
            (objects,) = raw.segment([state])
            masks = sum(found.mask_logits.nbytes for found in objects)
            del objects
            raw.release(state)
            positions = len(state.content) + options.max_new_tokens
            del state
            left.append(meter.held)
    assert held == rounded(positions) * raw._footprint.position <= needed
    assert meter.peak <= needed + raw._footprint.workspace + raw.cache.nbytes + 2 * masks
    assert left[0] == left[1] == left[2] < raw.cache.nbytes * 2, "nothing stays but what is kept"


def test_what_can_not_fit_is_refused_with_what_would(tiny_folder: Path) -> None:
    made = backend(tiny_folder)
    room = made._footprint

    def with_free(nbytes: int) -> LocalBackend:
        free = int((nbytes + room.workspace) / memory.USED) + 1
        return LocalBackend(made.model, made.processor, made.capabilities, cache_bytes=0, free=free)

    options = Options(max_new_tokens=8)
    needed = made.needs(PICTURE, options)
    assert with_free(needed).needs(PICTURE, options) == needed
    with pytest.raises(OutOfDeviceMemory, match=r"even alone.*dtype='bfloat16'"):
        with_free(needed - 2).needs(PICTURE, options)
    many = Prompt(text="What changed?", views=tuple(tiny.view(seed=i) for i in range(5)))
    small = with_free(made.needs(many, options) - 3 * 4 * room.position)
    with pytest.raises(OutOfDeviceMemory, match="at most 2 of its 5 tiles"):
        small.needs(many, options)
    with pytest.raises(PromptError, match="at most 5"):
        made.needs(Prompt(text="Q", views=(*many.views, tiny.view(seed=9))), options)


def test_a_full_house_is_said_before_memory_ends(tiny_folder: Path) -> None:
    made = backend(tiny_folder)
    room, options = made._footprint, Options(max_new_tokens=8)
    free = int((2 * made.needs(PICTURE, options) + room.workspace) / memory.USED) + 1
    raw = LocalBackend(made.model, made.processor, made.capabilities, cache_bytes=0, free=free)
    states = [raw.prefill(PICTURE, options, raw.encode(PICTURE.views)) for _ in range(2)]
    with pytest.raises(OutOfDeviceMemory, match=r"beside those under way.*2 answers"):
        raw.prefill(PICTURE, options, raw.encode(PICTURE.views))
    raw.step(states)
    raw.release(states.pop())
    raw.prefill(PICTURE, options, raw.encode(PICTURE.views))


@pytest.mark.parametrize("squares", [1, 6, 12])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_passes_before_loading_is_let_in_after_it(squares: int, dtype: str) -> None:
    """The room that a pair is promised is what the engine sets aside for it."""
    config = EarthMindConfig.from_upstream(listed()["config"])
    config.max_dynamic_patch = squares
    sizes, itemsize = Sizes.of(config.to_dict()), ITEMSIZE[dtype]
    free = math.ceil(pair_bytes(sizes, itemsize, squares) / memory.SHARE)
    room = memory.Footprint(sizes=sizes, itemsize=itemsize)
    budget = memory.divided(free, cache=2 << 30, workspace=room.workspace)
    tiles = sizes.tiles(squares)
    tokens = 2 * tiles * sizes.tile_tokens + QUESTION
    needs = room.ask(tiles=tiles, tokens=tokens, positions=rounded(tokens + NEW))
    assert needs <= budget.asks
    assert budget.cache + budget.asks + room.workspace <= memory.USED * free


def test_masks_that_do_not_fit_are_refused_before_they_are_made(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every token may be a mark, and each of them a mask of the whole picture."""
    raw, marks = backend(tiny_folder), 7
    state = raw.prefill(PICTURE, Options(), raw.encode(PICTURE.views))
    raw.step([state])
    state.said = [raw.processor.seg_token_id] * marks
    state.logits = None
    taken = marks * 64 * 64 * 4

    def free(nbytes: int) -> None:
        monkeypatch.setattr(device, "main_memory", lambda: Room(device="cpu", free=nbytes))

    free(taken - 1)
    with pytest.raises(OutOfDeviceMemory, match=r"main memory.*fewer objects"):
        raw.segment([state])
    free(taken)
    (objects,) = raw.segment([state])
    assert sum(found.mask_logits.nbytes for found in objects) == taken


def test_free_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "main_memory", lambda: Room(device="cpu", free=5000))
    assert device.free_memory(cpu) == 5000
    monkeypatch.setattr(device, "main_memory", lambda: Room(device="cpu"))
    assert device.free_memory(cpu) > 1 << 40, "what nobody can tell is tried"
