"""Bounds of a pass against a count of every tensor that lives during it, at real sizes.

Nothing is computed: fake tensors have shapes and no numbers, so the published 4B model is counted
in seconds and without its gigabytes.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import DynamicCache

from earthmind_lab.model import EarthMindConfig, EarthMindForConditionalGeneration, memory
from earthmind_lab.model.convert import read_config
from earthmind_lab.model.memory import ITEMSIZE, Sizes
from earthmind_lab.model.published import local_folder
from tests.benchmarks.full_size import listed

CASES = [("nano", "float32"), ("nano", "bfloat16"), ("4B", "bfloat16"), ("4B", "float32")]
OVER = 1.6
"""A bound is never under what was counted, and at most this factor over it."""


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make while they live."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.there = {p.untyped_storage()._cdata for p in [*model.parameters(), *model.buffers()]}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.there:
                    self.there.add(storage._cdata)
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
        return out

    def _gone(self, key: int, nbytes: int) -> None:
        self.there.discard(key)
        self.live -= nbytes


class Counted:
    """A model of no numbers and the memory of its passes."""

    def __init__(self, config: EarthMindConfig, dtype: str) -> None:
        self.config, self.itemsize = config, ITEMSIZE[dtype]
        self.sizes = Sizes.of(config.to_dict())
        self.model = EarthMindForConditionalGeneration(config).eval()

    def peak(self, run: Callable[[], Any]) -> int:
        """Bytes at the heaviest moment of `run`, what it returns included."""
        with torch.inference_mode(), Live(self.model) as live:
            run()
        return live.peak

    def read(self, tokens: int, cache: Any) -> Callable[[], Any]:
        embeds = torch.zeros(1, tokens, self.sizes.width)
        return lambda: self.model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1
        )


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def counted(request: pytest.FixtureRequest) -> Iterator[Counted]:
    name, dtype = request.param
    folder = local_folder("nano")
    config = (
        read_config(folder) if name == "nano" else EarthMindConfig.from_upstream(listed()["config"])
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with FakeTensorMode():
            yield Counted(config, dtype)
    finally:
        torch.set_default_dtype(before)


def bounded(found: int, bound: int) -> bool:
    return found <= bound <= found * OVER


def test_encoding(counted: Counted) -> None:
    for tiles in (1, 4, 13):
        pixels = torch.zeros(tiles, 3, counted.config.image_size, counted.config.image_size)
        found = counted.peak(partial(counted.model.encode_views, pixels))
        found += pixels.nbytes
        assert bounded(found, memory.encode_bytes(counted.sizes, tiles, counted.itemsize))


def test_reading(counted: Counted) -> None:
    sizes, itemsize = counted.sizes, counted.itemsize
    each = memory.kv_bytes_per_token(sizes, itemsize)
    for tokens in (600, 4700):
        found = counted.peak(counted.read(tokens, DynamicCache()))
        assert bounded(found, memory.read_bytes(sizes, tokens, itemsize) + tokens * each)


def test_reading_on(counted: Counted) -> None:
    sizes, itemsize = counted.sizes, counted.itemsize
    each = memory.kv_bytes_per_token(sizes, itemsize)
    for more in (1, 100):
        cache = DynamicCache()
        counted.peak(counted.read(4700, cache))
        # What was read is counted again as it is joined to the new keys and values.
        found = counted.peak(counted.read(more, cache)) - (4700 + more) * each
        if more == 1:
            assert found <= memory.step_bytes(sizes, 1, itemsize, after=4700)
        assert found <= memory.read_bytes(sizes, more, itemsize, after=4700)


def test_masks(counted: Counted) -> None:
    sizes, itemsize, side = counted.sizes, counted.itemsize, counted.config.sam_image_size
    pixels, features = torch.zeros(1, 3, side, side), None

    def encode() -> None:
        nonlocal features
        features = counted.model.segment_features(pixels)

    found = counted.peak(encode) + pixels.nbytes
    assert bounded(found, memory.features_pass_bytes(sizes, itemsize))
    assert features is not None
    assert features.nbytes == memory.feature_bytes(sizes, itemsize)
    for objects in (1, 8):
        states = torch.zeros(objects, sizes.width)
        with torch.inference_mode():
            logits = counted.model.segment(features, states)[0]
        found = max(
            counted.peak(partial(counted.model.segment, features, states)),
            counted.peak(partial(counted.model.resize_logits, logits, (1000, 1000))),
        )
        bound = memory.draw_bytes(sizes, objects, (1000, 1000), itemsize)
        assert bounded(found, bound)


def test_what_stays_is_exact(counted: Counted) -> None:
    sizes, itemsize = counted.sizes, counted.itemsize
    cache = DynamicCache()
    with torch.inference_mode():
        counted.read(10, cache)()
        tokens = counted.model.encode_views(torch.zeros(2, 3, sizes.tile_px, sizes.tile_px))
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == 10 * memory.kv_bytes_per_token(sizes, itemsize)
    assert tokens.nbytes == memory.token_bytes(sizes, 2, itemsize)


def test_sizes_are_the_same_in_both_layouts() -> None:
    published = listed()["config"]
    ours = EarthMindConfig.from_upstream(published).to_dict()
    assert Sizes.of(published) == Sizes.of(ours)  # type: ignore[arg-type]
    tiny: Any = json.loads((Path(__file__).parents[1] / "golden/parity/tiny_a.json").read_text())
    sizes = Sizes.of({**tiny["config"], "sam2": tiny["sam2"]})
    assert (sizes.layers, sizes.key_width, sizes.tile_tokens, sizes.mask_width) == (2, 32, 16, 128)


def test_a_pair_of_the_published_model_takes_less_than_a_gigabyte_per_tile_and_grows() -> None:
    sizes = Sizes.of(listed()["config"])  # type: ignore[arg-type]
    needs = [memory.pair_bytes(sizes, 2, squares) for squares in range(1, 13)]
    assert needs == sorted(needs)
    assert memory.kv_bytes_per_token(sizes, 2) == 36 * 2 * 2 * 128 * 2
    assert 0.2e9 < needs[0] < needs[-1] < 2e9


def test_fewer_sizes_than_needed_are_named() -> None:
    with pytest.raises(KeyError, match="patch_size"):
        Sizes.of({"text_config": {"num_attention_heads": 2}, "vision_config": {}, "image_size": 8})
