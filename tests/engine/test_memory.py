"""What an ask is said to take, against what torch counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from earthmind_lab.engine import memory
from earthmind_lab.engine.local import LocalBackend
from earthmind_lab.engine.slots import rounded
from earthmind_lab.errors import OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.model import EarthMindConfig, EarthMindForConditionalGeneration
from earthmind_lab.model.convert import read_config
from tests.benchmarks.full_size import listed
from tests.engine import tiny
from tests.engine.meter import Meter
from tests.engine.test_company import backend

PICTURE = Prompt(text="Segment the water.", views=(tiny.view("sar", seed=3),))
NANO = Path(memory.__file__).parents[1] / "weights" / "nano"


def full_size() -> EarthMindConfig:
    published: Any = listed()["config"]
    config = EarthMindConfig.from_upstream(published)
    config.text_config.vocab_size = published["llm_config"]["vocab_size"]
    return config


def peak(call: Any, *given: Any) -> int:
    with torch.inference_mode(), Meter() as meter:
        call(*given)
    return meter.peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", ["nano", "full"])
def test_stages_take_what_they_are_said_to(size: str, dtype: torch.dtype) -> None:
    """On tensors without content, so that full size costs nothing."""
    config = read_config(NANO) if size == "nano" else full_size()
    with torch.device("meta"):
        model = EarthMindForConditionalGeneration(config).eval().to(dtype)
    room = memory.Footprint(config=config, itemsize=dtype.itemsize)
    side, sam_side, width = config.image_size, config.sam_image_size, config.text_config.hidden_size

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def read(embeds: torch.Tensor) -> None:
        model.language.model(inputs_embeds=embeds, past_key_values=DynamicCache(), use_cache=True)

    with torch.inference_mode():
        features = model.segment_features(empty(1, 3, sam_side, sam_side))
        masks, _, _ = model.segment(features, empty(8, width))
    counted = {
        "encoding": peak(model.encode_views, empty(3, 3, side, side)),
        "reading": peak(read, empty(1, 700, width)) - 700 * room.position,
        "viewing": peak(model.segment_features, empty(1, 3, sam_side, sam_side)),
        "drawing": max(
            peak(model.segment, features, empty(8, width)),
            peak(model.resize_logits, masks, (sam_side, sam_side)),
        ),
    }
    said = {
        "encoding": room.encoding(3),
        "reading": room.reading(700, 700),
        "viewing": room.viewing,
        "drawing": room.drawing(8),
    }
    for stage, nbytes in counted.items():
        assert nbytes <= said[stage] <= 2 * nbytes, (stage, nbytes, said[stage])


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


def test_main_memory_heeds_the_container(tmp_path: Path) -> None:
    proc, group = tmp_path / "proc", tmp_path / "sys/fs/cgroup"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:     800 kB\n")
    assert memory.main_memory(tmp_path) == 800 << 10
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5000\n")
    (group / "memory.stat").write_text("anon 4000\ninactive_file 1000\n")
    assert memory.main_memory(tmp_path) == 800 << 10
    (group / "memory.max").write_text("9000\n")
    assert memory.main_memory(tmp_path) == 5000
    (group / "memory.max").write_text("100\n")
    assert memory.main_memory(tmp_path) == 0
    assert memory.main_memory(tmp_path / "nowhere") > 0, "not Linux"
