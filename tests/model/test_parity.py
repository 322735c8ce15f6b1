"""Every stage against runs of the original code, in float32 on a CPU.

`EARTHMIND_PARITY` names a folder of reference runs; without it the committed ones are used. What
a case does follows from its fields, never from its name.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from earthmind_lab.exchange import Options, Prompt, Region, Turn, View
from earthmind_lab.model import (
    FUSED,
    EarthMindConfig,
    EarthMindForConditionalGeneration,
    EarthMindProcessor,
    PromptLayout,
    load_upstream,
    weighted,
)

COMMITTED = Path(__file__).parents[1] / "golden" / "parity"
FOLDER = Path(os.environ.get("EARTHMIND_PARITY", COMMITTED))
TOLERANCE = 1e-4
MASK_PIXELS = 5
BLOCK = re.compile(r"<img>(?:<IMG_CONTEXT>)*</img>")


def _stems() -> dict[str, dict[str, Any]]:
    """Reference sets with cases; a set without weights reuses those of the stem before `_`."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        spec = json.loads(path.read_text())
        if isinstance(spec, dict) and "cases" in spec:
            found[path.name.removesuffix(".json")] = spec
    return found


STEMS = _stems()


def _base(stem: str) -> str:
    has_weights = (FOLDER / f"{stem}.model.safetensors").is_file()
    return stem if has_weights else stem.rsplit("_", 1)[0]


def _cases(kind: str) -> list[tuple[str, str]]:
    wanted = []
    for stem, spec in STEMS.items():
        for name, case in spec["cases"].items():
            if not name.startswith("_") and ("sam_head_calls" in case) == (kind == "sam"):
                wanted.append((stem, name))
    return wanted


@cache
def golden(stem: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{stem}.golden.safetensors")


@cache
def built(
    stem: str, attention: str
) -> tuple[EarthMindForConditionalGeneration, EarthMindProcessor]:
    base = _base(stem)
    spec = STEMS[base]
    meta = spec["cases"].get("_meta", spec.get("_meta", {}))
    config = EarthMindConfig.from_upstream(spec["config"], sam2=spec["sam2"])
    state = load_upstream(FOLDER / f"{base}.model.safetensors", config)
    model = EarthMindForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=state, attn_implementation=attention
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / f"{base}.tokenizer.json"))
    processor = EarthMindProcessor(tokenizer, model.config)
    assert processor.image_token_id == meta.get("img_context_token_id", processor.image_token_id)
    assert processor.seg_token_id == meta.get("seg_token_id", processor.seg_token_id)
    return model, processor


@dataclass
class Run:
    """One case, put to the native model step by step."""

    stem: str
    name: str
    attention: str

    def __post_init__(self) -> None:
        self.case: dict[str, Any] = STEMS[self.stem]["cases"][self.name]
        self.model, self.processor = built(self.stem, self.attention)
        self.tensors = golden(self.stem)
        # Cases of the fused version state the fused tokens; all others are concatenated.
        fused = f"{self.name}.fused_tokens" in self.tensors
        self.options = Options(fusion="weighted" if fused else "concatenate")
        self.prompt = self._prompt() if "text" in self.case else Prompt(text="none")

    def has(self, key: str) -> bool:
        return f"{self.name}.{key}" in self.tensors

    def want(self, key: str) -> Tensor:
        return self.tensors[f"{self.name}.{key}"]

    def _views(self) -> tuple[View, ...]:
        def names(field: str) -> list[str]:
            value = self.case.get(field, [])
            return value if isinstance(value, list) else [value]

        sensors = {
            "image": "sar" if "rgb_image" in self.case else "optical",
            "rgb_image": "optical",
            "frames": "optical",
        }
        return tuple(
            View(image=self.tensors[f"image.{name}"].numpy(), name=name, modality=sensor)
            for field, sensor in sensors.items()
            for name in names(field)
        )

    def _prompt(self) -> Prompt:
        masks = self.tensors[self.case["mask_prompts"]] if "mask_prompts" in self.case else ()
        return Prompt(
            text=self.case["text"].removeprefix("<image>"),
            views=self._views(),
            regions=tuple(Region(mask=mask.numpy().astype(bool)) for mask in masks),
            history=self._history(self.case.get("past_text", "")),
        )

    def _history(self, past: str) -> tuple[Turn, ...]:
        form = self.processor.config.template
        turn = re.compile(
            re.escape(form["user_prefix"])
            + "(.*?)"
            + re.escape(form["user_suffix"])
            + "(.*?)"
            + re.escape(form["reply_suffix"]),
            re.DOTALL,
        )
        found = turn.findall(BLOCK.sub("", past))
        return tuple(Turn(question=question, reply=reply) for question, reply in found)

    @property
    def single(self) -> bool:
        return self.processor.single_tile(self.prompt, self.options)

    def layout(self) -> PromptLayout:
        counts = [
            self.processor.tile_count(view.shape, single=self.single) for view in self.prompt.views
        ]
        return self.processor.layout(self.prompt, counts, self.options)

    def pixels(self) -> list[Tensor]:
        return [
            torch.from_numpy(self.processor.pixel_values(view, single=self.single))
            for view in self.prompt.views
        ]

    def embeds(self, layout: PromptLayout) -> Tensor:
        encoded = [self.model.encode_views(pixels) for pixels in self.pixels()]
        tokens = {(i, j): tile for i, tiles in enumerate(encoded) for j, tile in enumerate(tiles)}
        ids = torch.from_numpy(layout.input_ids)
        if self.options.fusion == "weighted":
            text = self.model.get_input_embeddings()(ids[0, layout.question_start :])
            sar, *optical = encoded
            mixed, by_optical, by_sar = weighted(torch.cat(optical), sar, text)
            close(mixed, self.want("fused_tokens"), "fused tokens")
            close(by_optical[..., None], self.want("weight_optical"), "optical weight")
            close(by_sar[..., None], self.want("weight_sar"), "SAR weight")
            tokens |= {(FUSED, tile): row for tile, row in enumerate(mixed)}
        return self.model.embed(ids, layout.slots(tokens))


def close(found: Tensor, wanted: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    assert found.shape == wanted.shape, f"{what}: {found.shape} instead of {wanted.shape}"
    difference = (found.float() - wanted.float()).abs().max().item() if found.numel() else 0.0
    assert difference <= tolerance, f"{what}: off by {difference:.2e}"


def greedy(run: Run, embeds: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prompt logits and states, generated ids and the state at each step."""
    output = run.model(inputs_embeds=embeds, use_cache=True)
    logits, hidden = output.logits, output.last_hidden_state
    ids, states = [int(logits[0, -1].argmax())], [hidden[0, -1]]
    cache_ = output.past_key_values
    while len(ids) < count:
        step = run.model(
            input_ids=torch.tensor([[ids[-1]]]), past_key_values=cache_, use_cache=True
        )
        states.append(step.last_hidden_state[0, -1])
        ids.append(int(step.logits[0, -1].argmax()))
    return logits, hidden, torch.tensor([ids]), torch.stack(states)


@pytest.fixture(params=["eager", "sdpa"])
def attention(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(request: pytest.FixtureRequest, attention: str) -> Run:
    stem, name = request.param
    return Run(stem, name, attention)


text_cases = pytest.mark.parametrize("run", _cases("text"), indirect=True, ids="-".join)
sam_cases = pytest.mark.parametrize("run", _cases("sam"), indirect=True, ids="-".join)


def test_there_are_cases() -> None:
    assert _cases("text"), f"no reference runs in {FOLDER}"


@text_cases
def test_prompt_is_exact(run: Run) -> None:
    layout = run.layout()
    wanted = run.want("input_ids")
    assert torch.equal(torch.from_numpy(layout.input_ids), wanted)
    assert run.processor.decode(layout.input_ids[0]) == run.processor.decode(wanted[0].tolist())
    if run.has("prompt_masks_grid"):
        grid = run.want("prompt_masks_grid").flatten(1)
        for cells, marked in zip(layout.region_cells, grid, strict=True):
            assert cells.tolist() == marked.nonzero().flatten().tolist()


@text_cases
@torch.inference_mode()
def test_views_are_encoded(run: Run) -> None:
    fields = {view.modality: [] for view in run.prompt.views}
    for view, pixels in zip(run.prompt.views, run.pixels(), strict=True):
        fields[view.modality].append(pixels)
    for modality, several in fields.items():
        second = modality == "optical" and "rgb_image" in run.case
        key = "rgb_pixel_values" if second else "pixel_values"
        pixels = torch.cat(several)
        if run.has(key):
            close(pixels, run.want(key), key)
        if run.has(f"{key}.vit_last_hidden"):
            hidden = run.model.vision(pixels).last_hidden_state
            close(hidden, run.want(f"{key}.vit_last_hidden"), "vision tower")
            close(run.model.vision_features(pixels), hidden[:, 1:], "vision features", 0)
        if run.has(f"{key}.visual_tokens"):
            tokens = run.model.encode_views(pixels)
            close(tokens, run.want(f"{key}.visual_tokens"), "visual tokens")


@text_cases
@torch.inference_mode()
def test_prompt_pass_and_greedy_answer(run: Run) -> None:
    embeds = run.embeds(run.layout())
    if run.has("inputs_embeds"):
        close(embeds, run.want("inputs_embeds"), "input embeddings")
    wanted = run.want("generated_ids")
    logits, hidden, ids, states = greedy(run, embeds, wanted.shape[1])
    if run.has("llm_logits"):
        close(logits, run.want("llm_logits"), "logits")
        close(hidden, run.want("llm_last_hidden"), "last hidden state")
    assert ids.tolist() == wanted.tolist()
    close(states, run.want("generate_last_hidden_all_steps"), "states while generating")
    if "prediction" in run.case:
        # The original strips the text that it returns.
        assert run.processor.decode(ids[0].tolist()).strip() == run.case["prediction"].strip()


@text_cases
@torch.inference_mode()
def test_masks(run: Run) -> None:
    ids, states = run.want("generated_ids")[0], run.want("generate_last_hidden_all_steps")
    # Row k + 1 is the state after reading token k; a [SEG] that ends the answer is never read.
    fed = (ids[:-1] == run.processor.seg_token_id).nonzero().flatten() + 1
    seg = states[fed]
    if not run.has("seg_embedding"):
        assert len(seg) == 0
        return
    close(seg, run.want("seg_hidden"), "[SEG] states")
    close(run.model.text_head(seg), run.want("seg_embedding"), "[SEG] embeddings")
    if not run.prompt.views or not run.has("mask.0"):
        return
    view = run.prompt.views[run.processor.mask_view(run.prompt, run.options)]
    features = run.model.segment_features(torch.from_numpy(run.processor.sam_pixel_values(view)))
    logits, _, _ = run.model.segment(features, seg)
    side = run.model.config.sam_image_size
    for index in range(len(seg)):
        mask = logits[index : index + 1]
        middle = run.model.resize_logits(mask, (side, side))
        close(middle[:, None], run.want(f"sam_mask_logits.{index}"), "mask logits")
        drawn = run.model.resize_logits(mask, view.shape) > 0
        wrong = (drawn.numpy() != run.want(f"mask.{index}").numpy().astype(bool)).sum()
        assert wrong <= MASK_PIXELS


@sam_cases
@torch.inference_mode()
def test_mask_tower_alone(run: Run) -> None:
    names = run.case["frames"] if isinstance(run.case["frames"], list) else [run.case["image"]]
    for index, name in enumerate(names[: run.case["frames_prompted"]]):
        view = View(image=run.tensors[f"image.{name}"].numpy(), name=name, modality="optical")
        pixels = torch.from_numpy(run.processor.sam_pixel_values(view))
        if run.has("sam_pixel_values"):
            close(pixels, run.want("sam_pixel_values")[index : index + 1], "SAM 2 pixels")
        features = run.model.segment_features(pixels)
        embedding = run.want("language_embedding")
        masks, iou, score = run.model.sam.decode(features, embedding)
        if run.has(f"call{index}.backbone_features"):
            close(features.embedding, run.want(f"call{index}.backbone_features"), "features")
        close(masks, run.want(f"call{index}.low_res_multimasks"), "all masks")
        close(iou, run.want(f"call{index}.ious"), "predicted IoU")
        close(score[:, None], run.want(f"call{index}.object_score_logits"), "object score")
        best, _, _ = run.model.sam(features, embedding)
        close(best[:, None], run.want(f"call{index}.low_res_mask"), "chosen mask")


def test_embed_refuses_a_wrong_count() -> None:
    from earthmind_lab.errors import EngineError

    model, processor = built(next(iter(STEMS)), "sdpa")
    ids = torch.tensor([[processor.image_token_id, 0]])
    with pytest.raises(EngineError, match="do not fit together"):
        model.embed(ids, torch.zeros(2, model.config.text_config.hidden_size))


def test_segmenting_several_objects_at_once_equals_one_by_one() -> None:
    model, _ = built(next(iter(STEMS)), "eager")
    generator = torch.Generator().manual_seed(1)
    side = model.config.sam_image_size
    with torch.inference_mode():
        features = model.segment_features(torch.randn(1, 3, side, side, generator=generator))
        hidden = torch.randn(3, model.config.text_config.hidden_size, generator=generator)
        together, iou, score = model.segment(features, hidden)
        rows = [model.segment(features, hidden[i : i + 1]) for i in range(3)]
        repeated, _, _ = model.segment(features.select(torch.zeros(3, dtype=torch.long)), hidden)
    close(together, torch.cat([row[0] for row in rows]), "masks")
    close(iou, torch.cat([row[1] for row in rows]), "IoU")
    close(score, torch.cat([row[2] for row in rows]), "score")
    close(repeated, together, "masks of one picture per object")
    assert (score < 0).any(), "some object score is negative"
    assert np.isfinite(together.numpy()).all()
    assert together.min() > -1000
