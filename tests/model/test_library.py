"""What people do with a transformers model: adapters, fewer bits, checkpointing, device maps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor
from earthmind_lab.model.batch import collate
from scripts.apart import TORCHAO, folder_of, install
from tests.model.parity import CASES, Run, build, built

STEM = CASES[0][0]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    model, processor = built(STEM, "sdpa")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def inputs(processor: EarthMindProcessor) -> dict[str, Tensor]:
    model, _ = built(STEM, "sdpa")
    found = [Run(stem, name, model, processor) for stem, name in CASES if stem == STEM]
    return collate(
        processor, [run.prompt for run in found if "image" in run.case and "text" in run.case]
    )


@pytest.mark.parametrize(("bits", "most"), [(8, 0.05), (4, 0.5)])
def test_language_model_with_fewer_bits(saved: Path, bits: int, most: float) -> None:
    """Through transformers' own quantisation interface; the other parts stay as they are."""
    install("torchao", TORCHAO)
    paths = [str(folder_of("torchao", TORCHAO) or ""), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.fewer_bits", str(saved), str(bits)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["language"].startswith("torchao")
    assert found["vision"] == "Parameter"
    assert 0 < found["error"] < most


def test_adapter_on_the_language_model_learns() -> None:
    import peft

    model, processor = build(STEM, "sdpa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft reads a name that transformers has renamed
        adapted = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=4, target_modules=r"language\.model\..*\.(q|k|v|o|gate|up|down)_proj"
            ),
        )
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained
    assert all(".language.model." in name and "lora_" in name for name in trained)
    run = Run(*CASES[0], model, processor)
    batch = collate(processor, [run.prompt], replies=["A harbour.<|end|>"])
    optimiser = torch.optim.SGD((p for p in adapted.parameters() if p.requires_grad), lr=0.5)
    losses = []
    for _ in range(5):
        loss = adapted(**batch).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0] - 0.1
    with adapted.disable_adapter(), torch.no_grad():
        assert abs(adapted(**batch).loss.item() - losses[0]) < 1e-5


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    model, processor = build(STEM, "sdpa")
    run = Run(*CASES[0], model, processor)
    batch = collate(processor, [run.prompt], replies=["A harbour.<|end|>"])
    weight = model.vision.encoder.layer[0].attention.q_proj.weight
    found = []
    for checkpointing in (False, True):
        model.train()
        if checkpointing:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # renamed in newer versions of transformers
                model.gradient_checkpointing_enable({"use_reentrant": False})
                assert model.is_gradient_checkpointing
        model.zero_grad()
        model(**batch, use_cache=False).loss.backward()
        assert weight.grad is not None
        found.append(weight.grad.clone())
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)
    assert found[0].abs().sum() > 0


def test_device_map(saved: Path) -> None:
    model = EarthMindForConditionalGeneration.from_pretrained(saved, device_map="auto")
    assert {p.device.type for p in model.parameters()} == {model.device.type}
    kept = built(STEM, "sdpa")[0].state_dict()
    assert all(torch.equal(kept[key], value.cpu()) for key, value in model.state_dict().items())


def test_half_precision_answers_and_draws(saved: Path) -> None:
    """bfloat16 on this device, the mask tower included."""
    model = EarthMindForConditionalGeneration.from_pretrained(saved, dtype=torch.bfloat16)
    plain, processor = built(STEM, "sdpa")
    batch = inputs(processor)
    with torch.no_grad():
        difference = (model(**batch).logits.float() - plain(**batch).logits).abs()
        side = model.config.sam_image_size
        seen = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        state = torch.randn(2, model.config.text_config.hidden_size)
        # All candidates: which of three near equals is best may change with the rounding.
        half, _, _ = model.all_masks(model.segment_features(seen.bfloat16()), state.bfloat16())
        full, _, _ = plain.all_masks(plain.segment_features(seen), state)
    assert difference[batch["attention_mask"].bool()].max() < 0.3
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).square().mean().sqrt() / full.std() < 0.1


def test_auto_classes_read_a_folder_of_ours(saved: Path) -> None:
    """In a fresh interpreter: what registers them is importing the classes, nothing else."""
    code = f"""
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
        from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor
        for auto in (AutoConfig, AutoModelForImageTextToText, AutoProcessor):
            print(type(auto.from_pretrained({str(saved)!r})).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split() == [
        "EarthMindConfig",
        "EarthMindForConditionalGeneration",
        "EarthMindProcessor",
    ]
