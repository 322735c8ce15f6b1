"""A small model of our own: it builds, runs, trains and survives a round trip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from earthmind_lab.errors import EngineError, ModelNotFound, UnsafeCheckpoint
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model import (
    EarthMindConfig,
    EarthMindForConditionalGeneration,
    EarthMindProcessor,
)
from earthmind_lab.model.config import sam2_config
from earthmind_lab.model.modeling import pixel_shuffle

GOLDEN = Path(__file__).parents[1] / "golden" / "parity"
Build = Callable[..., EarthMindConfig]


def build(config: EarthMindConfig, seed: int = 0) -> EarthMindForConditionalGeneration:
    torch.manual_seed(seed)
    return EarthMindForConditionalGeneration(config).eval()


def ask(
    model: EarthMindForConditionalGeneration, processor: EarthMindProcessor
) -> tuple[Tensor, Tensor]:
    """Logits of a pair prompt, and the mask of its last position."""
    pixels = np.random.default_rng(3).integers(0, 256, (2, 50, 80, 3), dtype=np.uint8)
    views = (
        View(image=pixels[0], name="true_colour", modality="optical"),
        View(image=pixels[1], name="vv_vh_ratio", modality="sar"),
    )
    prompt, options = Prompt(text="Segment the water.", views=views), Options()
    layout = processor.layout(prompt, [1, 1], options)
    tokens = {
        (index, 0): model.encode_views(torch.from_numpy(processor.pixel_values(view)))[0]
        for index, view in enumerate(views)
    }
    embeds = model.embed(torch.from_numpy(layout.input_ids), layout.slots(tokens))
    output = model(inputs_embeds=embeds)
    view = views[processor.arrange(prompt, options).mask_view]
    features = model.segment_features(torch.from_numpy(processor.sam_pixel_values(view)))
    logits, iou, score = model.segment(features, output.last_hidden_state[0, -1:])
    assert iou.shape == score.shape == (1,)
    return output.logits, model.resize_logits(logits, view.shape)


@pytest.fixture
def processor(small_config: Build) -> EarthMindProcessor:
    words = PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "tiny_a.tokenizer.json"))
    return EarthMindProcessor(words, small_config())


def test_import_is_light() -> None:
    code = (
        "import sys, earthmind_lab.model as m; assert 'EarthMindConfig' in dir(m); "
        "heavy = {'torch', 'transformers', 'rasterio', 'xarray', 'geopandas'} & set(sys.modules); "
        "assert not heavy, heavy; m.EarthMindProcessor; m.EarthMindForConditionalGeneration; "
        "far = {'rasterio', 'xarray', 'geopandas', 'torchvision', 'timm'} & set(sys.modules); "
        "assert not far, far"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_unknown_name() -> None:
    import earthmind_lab.model as package

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_round_trip_is_bit_identical(
    small_config: Build, processor: EarthMindProcessor, tmp_path: Path, attention: str
) -> None:
    model = build(processor.config)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = EarthMindForConditionalGeneration.from_pretrained(
        tmp_path, attn_implementation=attention
    )
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert again.language.lm_head.weight is again.language.model.embed_tokens.weight
    assert again.config.notice == "a small model"
    # Every part got the wish, also those the library does not know to be parts.
    for part in (again.vision, again.language, again.sam.sam2, again.sam.sam2.vision_encoder):
        assert part.config._attn_implementation == attention
    assert again.sam.sam2.mask_decoder.config._attn_implementation == attention
    with torch.inference_mode():
        logits, mask = ask(again, EarthMindProcessor.from_pretrained(tmp_path))
        wanted, wanted_mask = ask(model, processor)
    assert mask.shape == (1, 50, 80)
    # Not bit for bit: mapped weights lie elsewhere in memory, and kernels add in another order.
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(mask, wanted_mask, rtol=0, atol=1e-5)


def test_half_precision(processor: EarthMindProcessor, tmp_path: Path) -> None:
    build(processor.config).save_pretrained(tmp_path)
    half = EarthMindForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        logits, mask = ask(half, processor)
        exact, _ = ask(build(processor.config), processor)
    assert mask.dtype == torch.float32
    assert (logits.float() - exact).abs().max() < 0.1


def test_memory_is_optional(small_config: Build) -> None:
    without, with_memory = (build(small_config(sam_memory=flag)) for flag in (False, True))
    extra = with_memory.state_dict().keys() - without.state_dict().keys()
    assert without.state_dict().keys() < with_memory.state_dict().keys()
    assert any("memory_attention" in key for key in extra)
    size = sum(p.numel() for p in without.parameters())
    assert size < sum(p.numel() for p in with_memory.parameters())


def test_position_code_is_shared_in_a_new_model(small_config: Build) -> None:
    sam = build(small_config()).sam.sam2
    first = sam.shared_image_embedding.positional_embedding
    assert torch.equal(first, sam.prompt_encoder.shared_embedding.positional_embedding)
    assert first.abs().sum() > 0


def test_gradients_reach_every_used_part(
    small_config: Build, processor: EarthMindProcessor
) -> None:
    model = build(processor.config).train()
    logits, mask = ask(model, processor)
    (logits.logsumexp(-1).mean() + mask.square().mean()).backward()
    for part in (model.vision, model.projector, model.language, model.text_head, model.sam):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.sam.fpn_norms.parameters())


def test_packed_questions_share_a_prefix(processor: EarthMindProcessor) -> None:
    """Two questions in one row under a 4-D mask equal the two asked apart."""
    model = build(processor.config)
    prefix, first, second = [5, 6, 7, 8], [20, 21, 22], [30, 31]
    row = torch.tensor([prefix + first + second])
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 4, 5]])
    seen = torch.tril(torch.ones(9, 9, dtype=torch.bool))
    seen[7:, 4:7] = False  # the second question does not see the first
    mask = torch.zeros(1, 1, 9, 9).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.inference_mode():
        packed = model(
            inputs_embeds=model.embed(row), attention_mask=mask, position_ids=positions
        ).logits
        apart = [model(input_ids=torch.tensor([prefix + q])).logits for q in (first, second)]
    torch.testing.assert_close(packed[:, :7], apart[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(packed[:, 7:], apart[1][:, 4:], rtol=0, atol=1e-5)


def test_cache_and_kept_logits(processor: EarthMindProcessor) -> None:
    model, ids = build(processor.config), torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False)
        assert whole.past_key_values is None
        start = model(input_ids=ids[:, :3], use_cache=True, logits_to_keep=1)
        step = model(input_ids=ids[:, 3:], past_key_values=start.past_key_values, use_cache=True)
    assert start.logits.shape[1] == 1
    assert start.last_hidden_state.shape[1] == 3
    torch.testing.assert_close(start.logits[0, -1], whole.logits[0, 2], rtol=0, atol=1e-5)
    torch.testing.assert_close(step.logits[0, -1], whole.logits[0, 3], rtol=0, atol=1e-5)


def test_pixel_shuffle_order() -> None:
    grid = torch.arange(16.0).reshape(1, 16, 1)  # 4 x 4, row-major
    assert pixel_shuffle(grid, 0.5)[0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]


def test_sam_features_move_and_count(small_config: Build) -> None:
    model = build(small_config())
    features = model.segment_features(torch.zeros(2, 3, 64, 64))
    tensors = (features.coarse, features.middle, features.fine)
    assert features.nbytes == sum(4 * t.numel() for t in tensors)
    assert features.to("meta").coarse.device.type == "meta"
    with pytest.raises(EngineError, match="one picture for all objects"):
        model.segment(features, torch.zeros(3, 32))
    masks, iou, _ = model.all_masks(features, torch.zeros(2, 32), multimask=True)
    assert masks.shape == (2, 3, 16, 16)
    assert iou.shape == (2, 3)


def test_global_block_that_opens_a_stage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4\] open a stage"):
        sam2_config(stages=[1, 1, 2, 1], global_att_blocks=[4])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_weights_that_can_run_code_are_refused(
    small_config: Build, tmp_path: Path, name: str
) -> None:
    small_config().save_pretrained(tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(UnsafeCheckpoint, match="can run code"):
        EarthMindForConditionalGeneration.from_pretrained(tmp_path)


def test_renamed_pickle_is_refused(small_config: Build, tmp_path: Path) -> None:
    small_config().save_pretrained(tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UnsafeCheckpoint, match="not a safetensors file"):
        EarthMindForConditionalGeneration.from_pretrained(tmp_path)


def test_folders_without_a_model(small_config: Build, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        EarthMindForConditionalGeneration.from_pretrained(tmp_path)
    small_config().save_pretrained(tmp_path)
    with pytest.raises(ModelNotFound, match="no weights"):
        EarthMindForConditionalGeneration.from_pretrained(tmp_path)


def test_missing_weights_are_an_error_not_a_warning(small_config: Build, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    build(small_config()).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["projector.1.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(EngineError, match=r"1 missing keys, first projector\.1\.weight"):
        EarthMindForConditionalGeneration.from_pretrained(tmp_path)
