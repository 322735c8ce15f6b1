"""Series of frames, sensors switched off, and pairs that don't fit together, through the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from earthmind_lab.engine import ResidentEngine, load_engine
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Options, Prompt, Reply, View
from tests.engine import tiny

SHORT = Options(max_new_tokens=24)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ResidentEngine:
    folder = tiny.save(
        tmp_path_factory.mktemp("tiny") / "memory", sam_memory=True, sam_config=tiny.sam2()
    )
    return load_engine(folder, device="cpu")


def frame(seed: int, name: str = "true_colour", modality: str = "optical", side: int = 64) -> View:
    return replace(tiny.view(modality, seed=seed, side=side), name=name, time=f"2019-09-{seed:02}")


def objects(reply: Reply) -> dict[int, list[np.ndarray]]:
    """View index -> masks drawn on it, in the order of the text."""
    found: dict[int, list[np.ndarray]] = {}
    for one in reply.objects:
        assert one.mask_logits is not None
        found.setdefault(one.view, []).append(one.mask_logits)
    return found


def test_an_object_is_drawn_on_every_frame_of_a_series(engine: ResidentEngine) -> None:
    views = tuple(frame(seed) for seed in (1, 2, 3))
    reply = engine.generate(Prompt(text="Segment the water.", views=views), SHORT)
    drawn = objects(reply)
    assert set(drawn) == {0, 1, 2}
    assert len({len(masks) for masks in drawn.values()}) == 1
    assert reply.usage.sam_encodes == 3
    labels = [found.label for found in reply.objects]
    assert labels[0::3] == labels[1::3] == labels[2::3]


def test_composites_of_one_acquisition_are_drawn_on_once(engine: ResidentEngine) -> None:
    views = (frame(1), frame(2, name="swir_nir_red"))
    reply = engine.generate(Prompt(text="Segment the water.", views=views), SHORT)
    assert set(objects(reply)) == {0}


def test_objects_are_followed_into_further_frames(engine: ResidentEngine) -> None:
    views, later = (frame(1), frame(2)), tuple(frame(seed) for seed in (3, 4, 5, 6, 7))
    prompt = Prompt(text="Segment the water.", views=views, follow=later)
    reply = engine.generate(prompt, SHORT)
    drawn = objects(reply)
    assert set(drawn) == set(range(7))
    alone = engine.generate(Prompt(text="Segment the water.", views=views), SHORT)
    assert reply.token_ids == alone.token_ids, "the language model doesn't read them"
    for index, masks in objects(alone).items():
        assert all(np.array_equal(a, b) for a, b in zip(masks, drawn[index], strict=True))
    moved = replace(prompt, follow=later[:1])
    assert np.array_equal(objects(engine.generate(moved, SHORT))[2][0], drawn[2][0])
    # Another past, another mask: what is followed depends on what was drawn before.
    other = replace(prompt, views=(frame(1), frame(8)))
    found = objects(engine.generate(other, SHORT))[2][0]
    assert np.abs(found - drawn[2][0]).max() > 1e-3 * np.abs(drawn[2][0]).max()


def test_more_frames_than_the_model_reads_are_refused(engine: ResidentEngine) -> None:
    views = tuple(frame(seed) for seed in range(1, 7))
    with pytest.raises(PromptError, match="at most 5; later frames can be followed"):
        engine.generate(Prompt(text="What changed?", views=views), SHORT)


def test_frames_to_follow_into(engine: ResidentEngine, tiny_folder: Path) -> None:
    with pytest.raises(PromptError, match="size of the views"):
        Prompt(text="Q", views=(frame(1),), follow=(frame(2, side=32),))
    with pytest.raises(PromptError, match="at least one view"):
        Prompt(text="Q", follow=(frame(2),))
    without = load_engine(tiny_folder, device="cpu")
    with pytest.raises(PromptError, match="has no memory"):
        without.generate(Prompt(text="Q", views=(frame(1),), follow=(frame(2),)), SHORT)


def test_a_pair_on_two_grids_is_refused(engine: ResidentEngine) -> None:
    views = (frame(1), frame(2, modality="sar", side=48))
    for fusion in ("concatenate", "weighted"):
        with pytest.raises(PromptError, match=r"one grid.*optical 64 x 64, sar 48 x 48"):
            engine.generate(Prompt(text="Q", views=views), replace(SHORT, fusion=fusion))


@pytest.mark.parametrize("off", ["optical", "sar"])
def test_a_sensor_switched_off_weighs_nothing(engine: ResidentEngine, off: str) -> None:
    """Nothing of its pixels reaches the answer, and the prompt keeps its length."""
    weighted = replace(SHORT, fusion="weighted", sensor_off=off)

    def ask(optical: int, sar: int, options: Options) -> Reply:
        views = (frame(optical), frame(sar, name="vv", modality="sar"))
        return engine.generate(Prompt(text="Segment the water.", views=views), options)

    reply = ask(1, 2, weighted)
    assert reply.sensor_weights is not None
    kept = int(off == "optical")  # optical comes first
    assert (reply.sensor_weights[kept] == 1).all()
    assert (reply.sensor_weights[1 - kept] == 0).all()
    other = ask(9, 2, weighted) if off == "optical" else ask(1, 9, weighted)
    assert other.token_ids == reply.token_ids
    assert all(
        np.array_equal(a.mask_logits, b.mask_logits)
        for a, b in zip(reply.objects, other.objects, strict=True)
    )
    changed = ask(1, 9, weighted) if off == "optical" else ask(9, 2, weighted)
    assert changed.logprobs != reply.logprobs
    both = ask(1, 2, replace(weighted, sensor_off=None))
    assert both.logprobs != reply.logprobs, "nothing read without a sensor serves with it"
    assert ask(1, 2, weighted).logprobs == reply.logprobs


def test_memory_is_exact_about_objects_asked_together(engine: ResidentEngine) -> None:
    """Several objects followed at once equal each followed alone."""
    from earthmind_lab.model.tracking import track

    model = engine._backend.model
    side = model.config.sam_image_size
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(4, 3, side, side, generator=generator)
    states = torch.randn(3, model.config.text_config.hidden_size, generator=generator)
    with torch.inference_mode():
        prompts = model.text_head(states)

        def run(rows: slice) -> torch.Tensor:
            frames = track(
                model.sam,
                4,
                lambda i: model.segment_features(pixels[i : i + 1]),
                prompts[rows],
                prompted=1,
            )
            return torch.stack([masks for masks, _, _ in frames])

        together = run(slice(None))
        apart = torch.cat([run(slice(i, i + 1)) for i in range(3)], dim=1)
    assert (together - apart).abs().max() < 0.02 * apart.std()  # memories are kept in bfloat16
