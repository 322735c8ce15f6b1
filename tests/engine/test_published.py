"""The engine on a published layout: what it writes and draws, against runs of the original code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from earthmind_lab.conversation import ask
from earthmind_lab.engine import ResidentEngine, load_engine
from earthmind_lab.exchange import Options, Prompt, Region, View
from tests.stand_in_engine import make_chip

GOLDEN = Path(__file__).parents[1] / "golden" / "parity"
SPEC = json.loads((GOLDEN / "tiny_a.json").read_text())
CASES = {
    name: case
    for name, case in SPEC["cases"].items()
    if name in ("single", "pair", "region", "segment")
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    shutil.copy(GOLDEN / "tiny_a.model.safetensors", folder / "model.safetensors")
    shutil.copy(GOLDEN / "tiny_a.tokenizer.json", folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps({**SPEC["config"], "sam2": SPEC["sam2"]}))
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path):
    engine = load_engine(folder, device="cpu")
    yield engine
    engine.close()


def test_it_is_shown_one_grey_sar_picture_and_true_colour(engine: ResidentEngine) -> None:
    assert engine.capabilities.composites == ("vv", "true_colour")


def test_fusion_given_at_loading_is_in_the_record_of_an_answer(
    folder: Path, engine: ResidentEngine
) -> None:
    """The weights can't tell it, so the record must."""
    other = load_engine(folder, device="cpu", fusion="weighted")
    asked = {"question": "What is it?", "options": Options(max_new_tokens=4)}
    answers = [ask(make_chip(), **asked, engine=each) for each in (engine, other)]
    other.close()
    assert [a.record.model["fusion"] for a in answers] == ["concatenate", "weighted"]


@pytest.mark.parametrize("name", CASES)
def test_ids_and_masks_are_those_of_the_original(engine: ResidentEngine, name: str) -> None:
    case, tensors = CASES[name], load_file(GOLDEN / "tiny_a.golden.safetensors")
    sensors = {"image": "sar" if "rgb_image" in case else "optical", "rgb_image": "optical"}
    prompt = Prompt(
        text=case["text"].removeprefix("<image>"),
        views=tuple(
            View(image=tensors[f"image.{case[key]}"].numpy(), name=key, modality=modality)
            for key, modality in sensors.items()
            if key in case
        ),
        regions=tuple(
            Region(mask=mask.numpy().astype(bool))
            for mask in (tensors[case["mask_prompts"]] if "mask_prompts" in case else ())
        ),
    )
    options = Options(max_new_tokens=case["n_new"])
    engine.generate(replace(prompt, text="Another question first."), options)
    reply = engine.generate(prompt, options)
    assert reply.usage.views_encoded == 0, "answered from the cache"
    assert list(reply.token_ids) == tensors[f"{name}.generated_ids"].flatten().tolist()
    assert len(reply.objects) == case["n_masks"]
    for index, found in enumerate(reply.objects):
        mask = tensors[f"{name}.mask.{index}"].numpy().squeeze().astype(bool)
        assert found.mask_logits is not None
        assert np.count_nonzero((found.mask_logits > 0) != mask) <= 5
