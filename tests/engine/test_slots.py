"""Rows that join, read and leave at random, against a cache of their own for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from earthmind_lab.engine.slots import Row, Slots, rounded

WIDTH = 16


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def language(request: pytest.FixtureRequest) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=32,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=4096,
        attn_implementation=request.param,
    )
    return Qwen2ForCausalLM(config).eval()


class Pair:
    """A row, and a cache of transformers that has read the same."""

    def __init__(self, row: Row) -> None:
        self.row, self.cache, self.alone = row, DynamicCache(), True

    def read(self, language: Any, embeds: torch.Tensor) -> torch.Tensor:
        return language.model(
            inputs_embeds=embeds[None], past_key_values=self.cache, use_cache=True
        ).last_hidden_state[0]


def read(language: Any, slots: Slots, pairs: list[Pair], counts: list[int]) -> None:
    """One pass over all of them; compared with each alone."""
    embeds = torch.zeros(len(pairs), max(counts), WIDTH)
    for row, count in zip(embeds, counts, strict=True):
        row[:count] = torch.randn(count, WIDTH)
        row[count:] = 1e6  # what the padding holds must not matter
    hidden = slots.read([pair.row for pair in pairs], embeds, counts)
    for pair, count, new, seen in zip(pairs, counts, embeds, hidden, strict=True):
        pair.row.length += count
        wanted = pair.read(language, new[:count])
        torch.testing.assert_close(seen[:count], wanted, rtol=1e-5, atol=1e-5)
        pair.alone &= len(pairs) == 1
        assert not pair.alone or torch.equal(seen, wanted), "alone, it computes the very same"


def invariants(slots: Slots) -> None:
    assert [row.place for row in slots.rows] == list(range(len(slots.rows)))
    assert (slots.nbytes > 0) == bool(slots.rows)
    for store in slots._layers:
        assert store[:, len(slots.rows) :].count_nonzero() == 0, "nothing of an answer that left"
        for row in slots.rows:
            assert store[:, row.place, :, row.length :].count_nonzero() == 0, "no padding is kept"


@torch.inference_mode()
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_rows_equal_caches_of_their_own(language: Qwen2ForCausalLM, data: st.DataObject) -> None:
    torch.manual_seed(0)
    slots, pairs = Slots(language), []
    for _ in range(data.draw(st.integers(1, 12))):
        act = data.draw(st.sampled_from(("join", "join", "read", "read", "resume", "leave")))
        if act == "join" or not pairs:
            pairs.append(Pair(slots.open(data.draw(st.sampled_from((1, 5, 140))))))
        elif act == "read":
            some = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=5, unique_by=id))
            if data.draw(st.booleans()):
                some.sort(key=lambda pair: pair.row.place)
            width = data.draw(st.sampled_from((1, 1, 3, 60)))
            read(language, slots, some, [data.draw(st.integers(1, width)) for _ in some])
        elif act == "resume":
            old = data.draw(st.sampled_from(pairs))
            length = data.draw(st.integers(0, old.row.length))
            new = Pair(slots.open(length + 3, slots.copy(old.row, old.row.length), length))
            for index, layer in enumerate(old.cache.layers if length else ()):
                new.cache.update(layer.keys[:, :, :length], layer.values[:, :, :length], index)
            new.alone = old.alone
            pairs.append(new)
        else:
            pair = pairs.pop(data.draw(st.integers(0, len(pairs) - 1)))
            slots.close(pair.row)
        invariants(slots)
    while pairs:
        slots.close(pairs.pop().row)
    assert (slots.nbytes, slots.rows) == (0, [])


@torch.inference_mode()
def test_a_broken_answer_does_not_reach_its_successor(language: Qwen2ForCausalLM) -> None:
    slots = Slots(language)
    stays, broken = Pair(slots.open(8)), Pair(slots.open(8))
    embeds = torch.stack([torch.randn(3, WIDTH), torch.full((3, WIDTH), torch.nan)])
    hidden = slots.read([stays.row, broken.row], embeds, [3, 3])
    torch.testing.assert_close(hidden[0], stays.read(language, embeds[0]), rtol=1e-5, atol=1e-5)
    stays.row.length = broken.row.length = 3
    slots.close(broken.row)
    read(language, slots, [stays, Pair(slots.open(8))], [1, 2])
    slots.close(stays.row)


@torch.inference_mode()
@pytest.mark.parametrize("failing", [0, 1])
def test_a_failed_pass_and_a_failed_growth_leave_every_row(
    language: Qwen2ForCausalLM, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(language)
    pairs = [Pair(slots.open(8)) for _ in range(2)]
    read(language, slots, pairs, [5, 2])

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(language.model.layers[failing].mlp, "forward", full)
        with pytest.raises(torch.OutOfMemoryError):
            slots.read([pair.row for pair in pairs], torch.randn(2, 4, WIDTH), [4, 3])
    made = slots._empty
    calls = iter(range(failing, 99))
    with monkeypatch.context() as patch:
        patch.setattr(slots, "_empty", lambda *a: made(*a) if next(calls) < 1 else full())
        with pytest.raises(torch.OutOfMemoryError):
            slots.open(1000)
    assert [pair.row.length for pair in pairs] == [5, 2]
    assert len(slots.rows) == 2
    read(language, slots, pairs, [1, 1])
    pairs.append(Pair(slots.open(1000)))
    read(language, slots, pairs, [200, 1, 3])


def test_room_is_given_back(language: Qwen2ForCausalLM) -> None:
    with torch.inference_mode():
        slots = Slots(language)
        long = slots.open(5000)
        assert slots.nbytes == slots.position_nbytes * rounded(5000)
        short = slots.open(10)
        assert slots.nbytes == slots.position_nbytes * rounded(5000) * 2
        slots.close(long)
        other = slots.open(10)
        assert slots.nbytes == slots.position_nbytes * rounded(10) * 2
        slots.close(short)
        slots.close(other)
        assert slots.nbytes == 0
