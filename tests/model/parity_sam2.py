"""The mask tower at its published size against the original, with weights made from a recipe."""

from __future__ import annotations

import gzip
import json
import re

import torch
from safetensors.torch import load_file
from torch import Tensor

from earthmind_lab.exchange import View
from earthmind_lab.model import EarthMindConfig
from earthmind_lab.model.keymap import convert_state
from earthmind_lab.model.pictures import normalise, resize
from earthmind_lab.model.segmentation import MaskTower
from tests.model.parity import FOLDER, close

PREFIX = "grounding_encoder."
_NORM = re.compile(r"norm\d*\.weight$|norm_final_attn\.weight$")
_MORE_NORMS = re.compile(
    r"(output_upscaling\.1|mask_downscaling\.[14]|mask_downsampler\.encoder\.\d+)\.weight$"
)
_POSITIONS = re.compile(
    r"(pos_embed|pos_embed_window|maskmem_tpos_enc|no_mem_embed|no_mem_pos_enc|no_obj_ptr)$"
)
_TOKENS = re.compile(
    r"(iou_token|mask_tokens|obj_score_token|point_embeddings\.\d+|not_a_point_embed|"
    r"no_mask_embed)\.weight$"
)


def recipe(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Weights from sorted keys and a seed, each drawn on its own."""
    state = {}
    for index, key in enumerate(sorted(shapes)):
        generator = torch.Generator().manual_seed(seed * 100003 + index)
        drawn = torch.randn(shapes[key], generator=generator)
        state[key] = _scaled(key, drawn)
    return state


def _scaled(key: str, drawn: Tensor) -> Tensor:
    if key.endswith("positional_encoding_gaussian_matrix"):
        return drawn
    if key.endswith("g_weight"):
        return 0.2 * drawn
    if drawn.ndim == 1 and (_NORM.search(key) or _MORE_NORMS.search(key)):
        return 1 + 0.1 * drawn
    if _POSITIONS.search(key) and drawn.ndim > 1:
        return 0.3 * drawn
    if drawn.ndim == 1:
        return 0.1 * drawn
    if _TOKENS.search(key):
        return 0.5 * drawn
    return drawn * 1.2 / drawn[0].numel() ** 0.5


def check_full_size_sam2(stem: str) -> None:
    """Features, masks, IoU and scores of each language embedding on one picture."""
    spec = json.loads((FOLDER / f"{stem}.json").read_text())
    wanted = load_file(FOLDER / f"{stem}.golden.safetensors")
    tower, config = _tower(spec)
    image = View(image=wanted["image"].numpy(), name="image", modality="optical").image
    side = config.sam_image_size
    pixels = torch.from_numpy(
        normalise(resize(image, (side, side))[None], config.sam_pixel_mean, config.sam_pixel_std)
    )
    close(pixels[..., ::16, ::16], wanted["sam_pixel_values_strided16"], "pixels")
    with torch.inference_mode():
        features = tower.encode(pixels)
        close(tower.conditioned(features)[:, ::8], wanted["backbone_features_c8"], "features", 2e-4)
        close(features.fine[:, ::4, ::8, ::8], wanted["high_res0_c4_s8"], "fine")
        close(features.middle[:, ::4, ::4, ::4], wanted["high_res1_c4_s4"], "middle")
        for index, prompt in enumerate(wanted["language_embedding"]):
            masks, iou, score = tower.decode(features, prompt[None])
            call = f"call{index}"
            close(masks[..., ::4, ::4], wanted[f"{call}.low_res_multimasks_s4"], "masks")
            close(iou, wanted[f"{call}.ious"], "predicted IoU")
            close(score[:, None], wanted[f"{call}.object_score_logits"], "object score")


def _tower(spec: dict[str, object]) -> tuple[MaskTower, EarthMindConfig]:
    listed = json.loads(gzip.decompress(next(FOLDER.glob("*_keys.json.gz")).read_bytes()))
    config = EarthMindConfig.from_upstream(listed["config"])
    shapes = {k: tuple(v["shape"]) for k, v in listed["keys"].items() if k.startswith(PREFIX)}
    assert len(shapes) == spec["keys"]
    made = recipe(shapes, int(str(spec["seed"])))
    checks = spec["checks"]
    assert isinstance(checks, dict)
    for key, check in checks.items():
        assert abs(made[key].double().sum().item() - check["sum"]) < 1e-3 * (1 + abs(check["sum"]))
    state = convert_state(made.items(), config)
    tower = MaskTower(config).eval()
    tower.load_state_dict({k.removeprefix("sam."): v for k, v in state.items()}, strict=True)
    return tower, config
