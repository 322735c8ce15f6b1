"""Reference runs of the original code, read by their fields, and what is checked of each.

A folder holds per data set `<stem>.json` (cases), `<stem>.golden.safetensors` (tensors) and, for
the sets that bring their own model, `<stem>.model.safetensors` and `<stem>.tokenizer.json`. What a
case does follows from its fields, never from its name, so any folder of this form can be checked.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
)
from earthmind_lab.model.batch import collate
from earthmind_lab.model.fusion import on_tiles_of_sar, quality, relevance, weighted
from earthmind_lab.model.segmentation import SamFeatures
from earthmind_lab.model.tracking import Tracker, track

FOLDER = Path(os.environ.get("EARTHMIND_PARITY_DIR") or Path(__file__).parents[1] / "golden/parity")
TOLERANCE = 1e-4
MEMORY_TOLERANCE = 2e-3
"""The original keeps memories in bfloat16; what reads them repeats that rounding only roughly."""
MASK_PIXELS = 5
"""Pixels at the border of a mask that may fall to the other side."""
FRAMES = 5
"""Frames that the original lets the language model read and prompts the mask tower on."""

_IMAGE = r"<img>(?:<IMG_CONTEXT>)*</img>"
_REGION = r"region\d+<vp>(?:<IMG_CONTEXT>)*</vp>"
BLOCK = re.compile(
    rf"{_IMAGE}(?:\n{_IMAGE})*"
    rf"(?:\nThere are \d+ part regions in the picture: {_REGION}(?:, {_REGION})*\.\n)?"
)
"""What an earlier turn holds of pictures and regions, written out."""


def _stems() -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        spec = json.loads(path.read_text())
        if isinstance(spec, dict) and "cases" in spec:
            found[path.name.removesuffix(".json")] = spec
    return found


STEMS = _stems()
CASES = [
    (stem, name)
    for stem, spec in STEMS.items()
    for name in spec["cases"]
    if not name.startswith("_")
]


def base(stem: str) -> str:
    """The data set whose weights a set uses: its own, or those of the stem before ``_``."""
    has_weights = (FOLDER / f"{stem}.model.safetensors").is_file()
    return stem if has_weights else stem.rsplit("_", 1)[0]


@cache
def golden(stem: str) -> dict[str, Tensor]:
    """All tensors of a data set."""
    return load_file(FOLDER / f"{stem}.golden.safetensors")


def build(
    stem: str, attention: str
) -> tuple[EarthMindForConditionalGeneration, EarthMindProcessor]:
    """The model and processor of a data set, new from its files."""
    stem = base(stem)
    spec = STEMS[stem]
    config = EarthMindConfig.from_upstream(spec["config"], sam2=spec["sam2"])
    state = load_upstream(FOLDER / f"{stem}.model.safetensors", config)
    config.local_query_width = state["local_query"].shape[1] if "local_query" in state else 0
    model = EarthMindForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=state, attn_implementation=attention
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / f"{stem}.tokenizer.json"))
    processor = EarthMindProcessor(tokenizer, model.config)
    meta = spec["cases"].get("_meta", {})
    assert processor.image_token_id == meta.get("img_context_token_id", processor.image_token_id)
    assert processor.seg_token_id == meta.get("seg_token_id", processor.seg_token_id)
    return model, processor


@cache
def built(
    stem: str, attention: str
) -> tuple[EarthMindForConditionalGeneration, EarthMindProcessor]:
    """`build`, kept."""
    return build(stem, attention)


def close(found: Tensor, wanted: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Fail when two tensors differ in shape or by more than `tolerance` anywhere."""
    assert found.shape == wanted.shape, f"{what}: {found.shape} instead of {wanted.shape}"
    difference = (found.float() - wanted.float()).abs().max().item() if found.numel() else 0.0
    assert difference <= tolerance, f"{what}: off by {difference:.2e}"


@dataclass
class Run:
    """One case, put to our model step by step."""

    stem: str
    name: str
    model: EarthMindForConditionalGeneration
    processor: EarthMindProcessor

    def __post_init__(self) -> None:
        self.case: dict[str, Any] = STEMS[self.stem]["cases"][self.name]
        self.tensors = golden(self.stem)
        self.weighted = "text_span" in self.case or self.has("fused_tokens")
        self.options = Options(fusion="weighted" if self.weighted else "concatenate")

    def has(self, key: str) -> bool:
        """Whether the reference run kept this stage."""
        return f"{self.name}.{key}" in self.tensors

    def want(self, key: str) -> Tensor:
        """A stage of the reference run."""
        return self.tensors[f"{self.name}.{key}"]

    def check(self, key: str, found: Tensor, tolerance: float = TOLERANCE) -> None:
        """Compare a stage that the reference run may have kept."""
        if self.has(key):
            close(found, self.want(key), key, tolerance)

    def view(self, name: str, modality: Any = "optical") -> View:
        """A picture of the data set."""
        return View(image=self.tensors[f"image.{name}"].numpy(), name=name, modality=modality)

    def names(self, field: str) -> list[str]:
        """Names of pictures in a field that holds one, several or none."""
        value = self.case.get(field, [])
        return value if isinstance(value, list) else [value]

    @property
    def frames(self) -> tuple[View, ...]:
        """Every frame, also those that the language model doesn't read."""
        return tuple(self.view(name) for name in self.names("frames"))

    @property
    def prompt(self) -> Prompt:
        """The case as a question."""
        sar = "sar" if "rgb_image" in self.case else "optical"
        views = (
            *(self.view(name, sar) for name in self.names("image")),
            *(self.view(name) for name in self.names("rgb_image")),
            *self.frames[:FRAMES],
        )
        masks = self.tensors[self.case["mask_prompts"]] if "mask_prompts" in self.case else ()
        return Prompt(
            text=self.case["text"].removeprefix("<image>"),
            views=views,
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


def check_case(run: Run) -> None:
    """Everything the reference run kept of a case."""
    with torch.inference_mode():
        if "sam_head_calls" in run.case:
            check_mask_tower(run)
        else:
            check_answer(run)


def check_answer(run: Run) -> None:
    """From pictures and text to ids and masks."""
    prompt, processor = run.prompt, run.processor
    single = processor.arrange(prompt, run.options).single_tile
    counts = [processor.tile_count(view.shape, single=single) for view in prompt.views]
    layout = processor.layout(prompt, counts, run.options)
    check_prompt(run, layout)
    pixels = [torch.from_numpy(processor.pixel_values(v, single=single)) for v in prompt.views]
    check_views(run, pixels)
    encoded = [run.model.encode_views(squares) for squares in pixels]
    tokens = {(i, j): tile for i, tiles in enumerate(encoded) for j, tile in enumerate(tiles)}
    ids = torch.from_numpy(layout.input_ids)
    if run.weighted:
        fused = check_fusion(run, encoded, ids[0, layout.question_start :])
        tokens |= {(FUSED, tile): row for tile, row in enumerate(fused)}
    embeds = run.model.embed(ids, layout.slots(tokens))
    run.check("inputs_embeds", embeds)
    check_generation(run, embeds)
    check_masks(run)


def check_prompt(run: Run, layout: PromptLayout) -> None:
    """Token ids and the cells of regions, exactly."""
    wanted = run.want("input_ids")
    assert layout.input_ids.tolist() == wanted.tolist(), "input_ids"
    if run.has("prompt_masks_grid"):
        grid = run.want("prompt_masks_grid").flatten(1)
        for cells, marked in zip(layout.region_cells, grid, strict=True):
            assert cells.tolist() == marked.nonzero().flatten().tolist(), "cells of a region"
    if run.has("vp_overall_mask") and layout.region_block is not None:
        marked_tile = run.want("vp_overall_mask").nonzero().flatten().tolist()
        assert marked_tile == [layout.blocks[layout.region_block][1]], "tile of the regions"
    if run.has("text_span"):
        span = [layout.question_start, layout.input_ids.shape[1]]
        assert run.want("text_span").tolist() == span, "text_span"


def check_views(run: Run, pixels: list[Tensor]) -> None:
    """Pixel values, vision tower and projector, per sensor."""
    second = len(run.names("rgb_image"))
    split = len(pixels) - second if second else len(pixels)
    for key, several in (("pixel_values", pixels[:split]), ("rgb_pixel_values", pixels[split:])):
        if not several:
            continue
        squares = torch.cat(several)
        run.check(key, squares)
        run.check(
            f"{key}.vit_last_hidden",
            run.model.vision(squares).last_hidden_state,
        )
        run.check(f"{key}.visual_tokens", run.model.encode_views(squares))


def check_fusion(run: Run, encoded: list[Tensor], text_ids: Tensor) -> Tensor:
    """Weighted fusion; its tokens (tiles, T, D)."""
    sar, *optical = encoded
    text = run.model.get_input_embeddings()(text_ids)
    run.check("sar_tokens", sar)
    run.check("optical_tokens", torch.cat(optical))
    run.check("text_embeds", text[None])
    averaged = on_tiles_of_sar(torch.cat(optical), len(sar), len(optical))
    if run.has("optical_tokens_averaged"):
        run.check("optical_tokens_averaged", averaged)
    else:
        assert torch.equal(averaged, torch.cat(optical))
    for kind, scores in (
        ("text", {"optical": relevance(averaged, text), "sar": relevance(sar, text)}),
        ("quality", {"optical": quality(averaged), "sar": quality(sar)}),
    ):
        name = "relevance" if kind == "text" else kind
        for sensor, score in scores.items():
            run.check(f"{name}_{sensor}", score)
        share = torch.sigmoid(scores["optical"] - scores["sar"])
        run.check(f"weight_{kind}", torch.stack([share, 1 - share], dim=-1))
    fused, by_optical, by_sar = weighted(torch.cat(optical), sar, text)
    run.check("weight_optical", by_optical[..., None])
    run.check("weight_sar", by_sar[..., None])
    run.check("fused_tokens", fused)
    return fused


def check_generation(run: Run, embeds: Tensor) -> None:
    """Prompt pass, greedy answer step by step, and the same by the library's `generate`."""
    wanted = run.want("generated_ids")
    output = run.model(inputs_embeds=embeds, use_cache=True)
    run.check("llm_logits", output.logits)
    run.check("llm_last_hidden", output.last_hidden_state)
    ids, states = [int(output.logits[0, -1].argmax())], [output.last_hidden_state[0, -1]]
    while len(ids) < wanted.shape[1]:
        step = run.model(
            input_ids=torch.tensor([[ids[-1]]]),
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        states.append(step.last_hidden_state[0, -1])
        ids.append(int(step.logits[0, -1].argmax()))
    assert ids == wanted[0].tolist(), "generated_ids"
    run.check("generate_last_hidden_all_steps", torch.stack(states))
    batch = collate(run.processor, [run.prompt], run.options)
    whole = run.model.generate(
        **batch, max_new_tokens=len(ids), do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert whole[0, batch["input_ids"].shape[1] :].tolist() == ids, "ids of generate()"
    if "prediction" in run.case:
        # The original strips the text that it returns.
        assert run.processor.decode(ids).strip() == run.case["prediction"].strip(), "prediction"


def check_masks(run: Run) -> None:
    """The mask of each [SEG] that was read, on every frame."""
    ids, states = run.want("generated_ids")[0], run.want("generate_last_hidden_all_steps")
    # Row k + 1 is the state after reading token k; a [SEG] that ends the answer is never read.
    seg = states[(ids[:-1] == run.processor.seg_token_id).nonzero().flatten() + 1]
    assert len(seg) == run.case.get("n_seg_tokens_used", len(seg))
    run.check("seg_hidden", seg)
    prompts = run.model.text_head(seg)
    run.check("seg_embedding", prompts)
    if not run.has("mask.0"):
        return
    if run.frames:
        views: tuple[View, ...] = run.frames
    else:
        views = (run.prompt.views[run.processor.arrange(run.prompt, run.options).mask_view],)
    drawn = track(
        run.model.sam,
        len(views),
        lambda index: features_of(run, views[index]),
        prompts,
        prompted=FRAMES,
    )
    logits = torch.stack([masks for masks, _, _ in drawn], dim=1)  # (N, F, h, w)
    side = run.model.config.sam_image_size
    for index, mask in enumerate(logits):
        middle = run.model.resize_logits(mask, (side, side))[:, None]
        kept = middle[..., ::4, ::4] if len(views) > 1 else middle
        run.check(f"sam_mask_logits.{index}", kept)
        found = run.model.resize_logits(mask, views[0].shape) > 0
        wrong = (found != run.want(f"mask.{index}").bool()).flatten(1).sum(dim=1)
        assert wrong.max() <= MASK_PIXELS, f"mask.{index}: {wrong.tolist()} pixels"


def features_of(run: Run, view: View) -> SamFeatures:
    """What the mask tower sees of a picture."""
    pixels = torch.from_numpy(run.processor.sam_pixel_values(view))
    features: SamFeatures = run.model.segment_features(pixels)
    return features


def check_mask_tower(run: Run) -> None:
    """SAM 2 alone on a given language embedding: prompted frames, then frames from memory."""
    views = run.frames if "frames_prompted" in run.case and run.names("image") == [] else ()
    views = views or tuple(run.view(name) for name in run.names("image"))
    pixels = torch.cat([torch.from_numpy(run.processor.sam_pixel_values(v)) for v in views])
    run.check("sam_pixel_values", pixels)
    check_pyramid(run, pixels[:1])
    prompts, per_frame = run.want("language_embedding"), run.case.get("embeddings_per_frame", 1)
    tracker = Tracker(tower=run.model.sam)
    logits, call = [], 0
    for index in range(len(views)):
        features = run.model.segment_features(pixels[index : index + 1])
        prompted = index < run.case["frames_prompted"]
        for row in range(per_frame if prompted else 1):
            prompt = prompts[[min(row, len(prompts) - 1)]]
            drawn = check_call(run, f"call{call}", tracker, features, prompt if prompted else None)
            call += 1
        masks, _, _ = drawn
        logits.append(run.model.resize_logits(masks, (pixels.shape[-1],) * 2))
    assert call == run.case["sam_head_calls"]
    run.check("mask_logits_video_res", torch.stack(logits))


def check_pyramid(run: Run, pixels: Tensor) -> None:
    """Levels of the image encoder; large ones were kept at every fourth channel and pixel."""
    encoder = run.model.sam.sam2.vision_encoder
    features = run.model.segment_features(pixels)
    levels = [features.fine, features.middle, features.coarse]
    trunk = encoder.backbone(pixels, return_dict=True).intermediate_hidden_states
    for index, level in enumerate(trunk):
        channels_first = level.permute(0, 3, 1, 2)
        run.check(f"trunk{index}", _thinned(channels_first, above=32))
    for index, level in enumerate(levels):
        run.check(f"fpn{index}_after_conv_s", _thinned(level, above=64))
    last = features.coarse
    place = encoder.neck.position_encoding(last.shape, last.device, last.dtype)
    run.check("vision_pos_enc_last", place[..., ::4, ::4])


def _thinned(level: Tensor, *, above: int) -> Tensor:
    return level[:, ::4, ::4, ::4] if level.shape[-1] > above else level


def check_call(
    run: Run, call: str, tracker: Tracker, features: SamFeatures, prompt: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One call of the mask decoder."""
    tower = run.model.sam
    if prompt is None:
        conditioned, tolerance = tracker.recalled(features), MEMORY_TOLERANCE
        language = None
    else:
        conditioned, tolerance = tower.conditioned(features), TOLERANCE
        language = prompt[None]
    run.check(f"{call}.backbone_features", conditioned, tolerance)
    every = tower.draw(features, conditioned, language)
    run.check(f"{call}.low_res_multimasks", every.masks, tolerance)
    run.check(f"{call}.ious", every.iou, tolerance)
    run.check(f"{call}.object_score_logits", every.score[:, None], tolerance)
    drawn = tracker.follow(features) if prompt is None else tracker.draw(features, prompt)
    run.check(f"{call}.low_res_mask", drawn[0][:, None], tolerance)
    kept = tracker.followed if prompt is None else tracker.prompted
    run.check(f"{call}.obj_ptr", list(kept.values())[-1].pointer, tolerance)
    return drawn
