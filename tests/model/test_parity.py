"""Every stage against runs of the original code, in float32 on a CPU: one item per case.

`EARTHMIND_PARITY_DIR` names another folder of reference runs of the same form; without it the
committed ones are used (`tests/model/parity.py` says what a folder holds). Training samples, the
key list and the full-size mask tower are checked where the folder has them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from earthmind_lab.errors import EngineError
from earthmind_lab.model import EarthMindConfig, EarthMindForConditionalGeneration
from earthmind_lab.model.keymap import convert_state, rename
from tests.model import parity_training as training
from tests.model.parity import CASES, FOLDER, STEMS, Run, base, build, built, check_case, close
from tests.model.parity_sam2 import check_full_size_sam2

ATTENTION = ("eager", "sdpa")
TRAINING = sorted(path.name.removesuffix(".train.json") for path in FOLDER.glob("*.train.json"))
KEY_LISTS = sorted(FOLDER.glob("*_keys.json.gz"))
LARGE = sorted(path.name.removesuffix(".json") for path in FOLDER.glob("sam2_*.json"))


def test_there_are_cases() -> None:
    assert CASES, f"no reference runs in {FOLDER}"


@pytest.mark.parametrize(("stem", "name"), CASES)
def test_case(stem: str, name: str) -> None:
    for attention in ATTENTION:
        check_case(Run(stem, name, *built(stem, attention)))


@pytest.mark.parametrize("stem", TRAINING)
def test_training_sample(stem: str) -> None:
    tensors = load_file(FOLDER / f"{stem}.train.safetensors")
    if stem != base(stem):  # the newer samples read the pictures of the older ones
        older = load_file(FOLDER / f"{base(stem)}.train.safetensors")
        tensors = {k: v for k, v in older.items() if k.endswith("pixel_values")} | tensors
    checks = [
        (training.is_june_pair, training.check_gate),
        (training.is_june_pair, training.check_pair_training),
        (training.is_june_pair, training.check_pair_step),
        (training.is_weighted_pair, training.check_weighted_training),
        (training.is_weighted_pair, training.check_weighted_step),
        (training.has_kl, training.check_kl),
        (training.has_kl, training.check_kl_step),
    ]
    fitting = [check for fits, check in checks if fits(tensors)]
    assert fitting, f"nothing in {stem}.train.safetensors is known"
    for check in fitting:
        assert check(tensors, *built(stem, "eager"))


@pytest.mark.parametrize("path", KEY_LISTS, ids=lambda path: path.name)
def test_key_list(path: Path) -> None:
    """Each published key names one of ours, and every weight of ours is filled."""
    listed = json.loads(gzip.decompress(path.read_bytes()))
    config = EarthMindConfig.from_upstream(listed["config"])
    keys = listed["keys"]
    assert len(keys) == listed["n_keys"]
    assert len({rename(key) for key in keys}) == len(keys)
    upstream = {key: torch.empty(entry["shape"], device="meta") for key, entry in keys.items()}
    config.local_query_width = upstream["local_query"].shape[1] if "local_query" in upstream else 0
    ours = convert_state(upstream.items(), config)
    with torch.device("meta"):
        wanted = EarthMindForConditionalGeneration(config).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in wanted.items()}


if LARGE:  # 30 s and 2 GB: not among the committed ones

    @pytest.mark.parametrize("stem", LARGE)
    def test_full_size_mask_tower(stem: str) -> None:
        check_full_size_sam2(stem)


PARTS = {
    "vision tower": "vision.",
    "projector": "projector.",
    "language model": "language.",
    "text head": "text_head.",
    "SAM 2 image encoder": "sam.sam2.vision_encoder.",
    "SAM 2 mask decoder": "sam.sam2.mask_decoder.",
}
UNUSED = ("output_hypernetworks_mlps.0.", "iou_prediction_head.proj_out.")
"""These make (also) the single mask that EarthMind never looks at."""


@pytest.mark.parametrize("prefix", PARTS.values(), ids=PARTS.keys())
def test_one_changed_weight_is_noticed(prefix: str) -> None:
    """0.1 more on one element of a weight must fail a case; three weights of each part."""
    stem = CASES[0][0]
    model, processor = build(stem, "sdpa")
    state = model.state_dict()
    names = sorted(n for n in state if n.startswith(prefix) and not any(u in n for u in UNUSED))
    rng = np.random.default_rng(7)
    for name in rng.choice(names, size=min(3, len(names)), replace=False):
        weight = state[name].view(-1)
        place = int(rng.integers(len(weight)))
        before = weight[place].item()
        weight[place] += 0.1
        cases = (Run(each, case, model, processor) for each, case in CASES if base(each) == stem)
        assert any(_fails(run) for run in cases), f"{name}[{place}]"
        weight[place] = before


def _fails(run: Run) -> bool:
    try:
        check_case(run)
    except AssertionError:
        return True
    return False


def test_embed_refuses_a_wrong_count() -> None:
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
