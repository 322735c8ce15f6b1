"""The same greedy ids whichever way an answer is made: cached or not, alone or padded, ..."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import StaticCache
from transformers.generation.streamers import BaseStreamer

from earthmind_lab.errors import EngineError, PromptError
from earthmind_lab.exchange import Options
from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor
from earthmind_lab.model.batch import collate
from tests.model.parity import CASES, Run, built

STEM = CASES[0][0]
NEW = 20
GREEDY: dict[str, Any] = {
    "max_new_tokens": NEW,
    "do_sample": False,
    "eos_token_id": None,
    "pad_token_id": 0,
}
Parts = tuple[EarthMindForConditionalGeneration, EarthMindProcessor]


@pytest.fixture(scope="module")
def parts() -> Parts:
    return built(STEM, "sdpa")


def runs(parts: Parts, *, weighted: bool) -> list[Run]:
    """All cases with an answer, of one kind of fusion."""
    found = [Run(stem, name, *parts) for stem, name in CASES]
    return [r for r in found if "text" in r.case and r.weighted == weighted]


@pytest.fixture(scope="module", params=["concatenate", "weighted"])
def batch(request: pytest.FixtureRequest, parts: Parts) -> tuple[dict[str, Tensor], Tensor]:
    """Prompts of every form in one padded batch, and the ids of the original for each alone."""
    several = runs(parts, weighted=request.param == "weighted")
    inputs = collate(parts[1], [r.prompt for r in several], Options(fusion=request.param))
    assert (inputs["attention_mask"] == 0).any(), "some prompt is padded"
    return inputs, torch.cat([r.want("generated_ids") for r in several])


Batch = tuple[dict[str, Tensor], Tensor]


@pytest.mark.parametrize(
    "way", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str
)
def test_padded_batch_equals_each_alone(parts: Parts, batch: Batch, way: dict[str, Any]) -> None:
    inputs, wanted = batch
    found = parts[0].generate(**inputs, **GREEDY, **way)
    assert found[:, : inputs["input_ids"].shape[1]].tolist() == inputs["input_ids"].tolist()
    assert found[:, -NEW:].tolist() == wanted.tolist()


def test_streamed_ids_are_the_same(parts: Parts) -> None:
    class Collected(BaseStreamer):
        def __init__(self) -> None:
            self.ids: list[int] = []

        def put(self, value: Tensor) -> None:
            self.ids += value.flatten().tolist()

        def end(self) -> None:
            self.ids.append(-1)

    run, streamer = runs(parts, weighted=False)[0], Collected()
    inputs = collate(parts[1], [run.prompt])
    found = parts[0].generate(**inputs, **GREEDY, streamer=streamer)
    assert streamer.ids == [*found[0].tolist(), -1]
    assert streamer.ids[-NEW - 1 : -1] == run.want("generated_ids")[0].tolist()


def test_decode_step_compiles_whole(parts: Parts) -> None:
    """One graph without a break serves every step, with the same ids."""
    model, processor = parts
    run = runs(parts, weighted=False)[0]
    inputs = collate(processor, [run.prompt])
    length = inputs["input_ids"].shape[1]
    cache = StaticCache(config=model.config.text_config, max_cache_len=length + NEW)
    step = torch.compile(model.forward, backend="aot_eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        embeds = model.prompt_embeds(
            inputs["input_ids"], inputs.get("pixel_values"), inputs.get("slots")
        )
        seen = torch.zeros(1, length + NEW, dtype=torch.long)
        seen[:, :length] = 1
        output = model(inputs_embeds=embeds, attention_mask=seen, past_key_values=cache)
        ids = [output.logits[:, -1].argmax(dim=-1)]
        torch._dynamo.utils.counters.clear()
        for place in range(length, length + NEW - 1):
            seen[:, place] = 1
            output = step(
                input_ids=ids[-1][:, None],
                attention_mask=seen,
                position_ids=torch.tensor([[place]]),
                past_key_values=cache,
                use_cache=True,
            )
            ids.append(output.logits[:, -1].argmax(dim=-1))
    assert torch.stack(ids, dim=1).tolist() == run.want("generated_ids").tolist()
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1


def test_beams_and_sampling_run(parts: Parts) -> None:
    model, processor = parts
    inputs = collate(processor, [r.prompt for r in runs(parts, weighted=False)[:2]])
    shape = (2, inputs["input_ids"].shape[1] + NEW)
    assert model.generate(**inputs, **GREEDY | {"num_beams": 3}).shape == shape
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(model.generate(**inputs, **GREEDY | {"do_sample": True, "temperature": 0.7}))
    assert drawn[0].shape == shape
    assert torch.equal(*drawn)


def test_stop_strings_end_an_answer(parts: Parts) -> None:
    model, processor = parts
    run = runs(parts, weighted=False)[0]
    ids = run.want("generated_ids")[0].tolist()
    piece = processor.decode(ids[:4]).strip()[-3:]
    inputs = collate(processor, [run.prompt])
    found = model.generate(**inputs, **GREEDY, stop_strings=[piece], tokenizer=processor.tokenizer)
    written = found[0, inputs["input_ids"].shape[1] :].tolist()
    assert 0 < len(written) < NEW
    assert written == ids[: len(written)]


def test_marks_of_a_generated_batch(parts: Parts) -> None:
    model, processor = parts
    several = runs(parts, weighted=False)
    found = model.generate(
        **collate(processor, [r.prompt for r in several]),
        **GREEDY,
        return_dict_in_generate=True,
        output_hidden_states=True,
    )
    marks = model.marks(found.sequences, found.hidden_states)
    assert sum(map(len, marks)) > 0
    for run, states in zip(several, marks, strict=True):
        assert len(states) == run.case.get("n_seg_tokens_used", 0)
        if len(states):
            torch.testing.assert_close(states, run.want("seg_hidden"), rtol=0, atol=1e-4)
    with pytest.raises(EngineError, match="beam search"):
        model.marks(found.sequences[:1], found.hidden_states)


def test_labels_give_the_loss_of_the_reply_alone(parts: Parts) -> None:
    model, processor = parts
    prompts = [r.prompt for r in runs(parts, weighted=False)[:2]]
    replies = ["A river.<|end|>", "Yes, [SEG].<|end|>"]
    both = collate(processor, prompts, replies=replies)
    assert (both["labels"] == processor.seg_token_id).sum() == 1
    with torch.no_grad():
        together = model(**both).loss
        apart = [
            collate(processor, [p], replies=[r]) for p, r in zip(prompts, replies, strict=True)
        ]
        losses = [model(**one).loss for one in apart]
        counts = [int((one["labels"] != -100).sum()) for one in apart]
    mean = sum(loss * n for loss, n in zip(losses, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(together, mean, rtol=0, atol=1e-5)
    with pytest.raises(PromptError, match="one reply for each"):
        collate(processor, prompts, replies=replies[:1])
