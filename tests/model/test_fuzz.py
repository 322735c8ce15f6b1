"""Generated prompts through the whole path: a valid reply, or an error of our tree.

`EARTHMIND_FUZZ` = how many examples; without it a fixed slice, the same each time.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthmind_lab.engine import loading
from earthmind_lab.engine.local import LocalBackend
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Options, Prompt, Region, Turn, View
from earthmind_lab.render import picture_view
from tests.engine import tiny

EXAMPLES = int(os.environ.get("EARTHMIND_FUZZ", "0"))
SLICE = 120
STEPS = 6
CONTROL = ("<img>", "</img>", "<IMG_CONTEXT>", "<vp>", "</vp>", "[SEG]", "<p>", "<eos>", "<image>")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    """A random model with every part: squares, memory, three masks."""
    folder = tiny.save(
        tmp_path_factory.mktemp("fuzz") / "model",
        sam_memory=True,
        sam_config=tiny.sam2(),
        multimask_output=True,
        max_dynamic_patch=6,
        max_frames=3,
    )
    files = loading._files(folder)
    key = loading._Key(
        folder=folder, weight_hash=loading.weight_hash(files), device="cpu", dtype="float32"
    )
    loaded: Any = loading._load(key)
    return LocalBackend(loaded.model, loaded.processor, loaded.capabilities)


# --- inputs --------------------------------------------------------------------------------------

SIDES = st.sampled_from((1, 2, 3, 17, 64, 65, 200))
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from((*CONTROL, "\n", " ", "What is it?", "水", "🛰", "\x00")), max_size=6
    ).map("".join),
    st.just("Segment the water."),
)
MODALITIES = st.sampled_from(("optical", "sar"))


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Pictures as people have them: grey, RGB, RGBA, float with NaN, 16 bit, empty, a strip."""
    height, width = draw(SIDES), draw(SIDES)
    kind = draw(
        st.sampled_from(
            ("rgb",) * 8 + ("grey", "rgba", "float", "u16", "empty", "strip", "black", "bool")
        )
    )
    pixels = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (height, width, 4))
    if kind == "strip":  # 20,000 pixels long without taking the memory
        return np.broadcast_to(np.uint8(7), (1, 20_000, 3))
    shapes: dict[str, Any] = {
        "rgb": lambda: pixels[..., :3].astype(np.uint8),
        "grey": lambda: pixels[..., 0].astype(np.uint8),
        "rgba": lambda: pixels.astype(np.uint8),
        "float": lambda: np.where(pixels[..., :3] < 9, np.nan, pixels[..., :3] / 255),
        "u16": lambda: pixels[..., :3].astype(np.uint16),
        "empty": lambda: np.zeros((0, width, 3), np.uint8),
        "black": lambda: np.zeros((height, width, 3), np.uint8),
        "bool": lambda: pixels[..., :3] > 99,
    }
    array: np.ndarray = shapes[kind]()
    return array


@st.composite
def views(draw: st.DrawFn, like: View | None = None) -> View:
    """A view; beside another one mostly of the same size."""
    array = draw(arrays())
    if like is not None and draw(st.integers(0, 4)):
        seed = draw(st.integers(0, 9))
        array = np.random.default_rng(seed).integers(0, 256, like.image.shape, dtype=np.uint8)
    if draw(st.booleans()):
        plain = picture_view(array)
        return View(image=plain.image, name=plain.name, modality=draw(MODALITIES))
    return View(
        image=array,
        name=draw(st.sampled_from(("true_colour", "vv", "x"))),
        modality=draw(MODALITIES),
        gsd=draw(st.sampled_from((None, 10.0, 0.3))),
        time=draw(st.sampled_from((None, "2019-09-17", "2020-01-01"))),
    )


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """A question with up to four views, and now and then everything else."""
    shown: list[View] = []
    for _ in range(draw(st.sampled_from((0, 1, 1, 2, 2, 2, 3, 4)))):
        shown.append(draw(views(shown[0] if shown else None)))
    regions = []
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        shape = shown[0].shape if shown and draw(st.integers(0, 5)) else (draw(SIDES), draw(SIDES))
        mask = np.zeros(shape, bool)
        mask[draw(st.integers(0, shape[0] - 1)) :, : draw(st.integers(0, shape[1]))] = True
        regions.append(Region(mask=mask, label=draw(TEXTS)))
    turns = draw(st.lists(st.builds(Turn, question=TEXTS, reply=TEXTS), max_size=2))
    follow = draw(st.lists(views(shown[0]), max_size=2)) if shown and draw(st.booleans()) else []
    return Prompt(
        text=f"{draw(st.sampled_from(('What is ', 'Segment ', '')))}{draw(TEXTS)}",
        views=tuple(shown),
        regions=tuple(regions),
        history=tuple(turns),
        follow=tuple(follow),
    )


OPTIONS = st.builds(
    Options,
    temperature=st.sampled_from((0.0, 0.0, 1.0)),
    seed=st.integers(0, 3),
    fusion=st.sampled_from((None, "concatenate", "weighted")),
    mask_source=st.sampled_from((None, "optical", "sar")),
    sensor_off=st.sampled_from((None, None, None, "optical", "sar")),
)


# --- what must hold ------------------------------------------------------------------------------


def test_valid_replies_or_errors_of_ours(backend: LocalBackend) -> None:
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES or SLICE,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def one(data: st.DataObject) -> None:
        try:
            prompt, options = data.draw(prompts()), data.draw(OPTIONS)
            backend.capabilities.check(prompt)
            answer(backend, prompt, options)
        except EarthMindError as error:
            named = re.sub(r"'.*'", "...", error.asked, flags=re.DOTALL)
            outcomes[f"{type(error).__name__}: {named}"] += 1
        else:
            outcomes["valid reply"] += 1

    one()
    print(*(f"{count:6} {outcome}" for outcome, count in outcomes.most_common()), sep="\n")  # noqa: T201
    assert outcomes["valid reply"] > 0.3 * sum(outcomes.values()), "most inputs reach the model"
    assert len(outcomes) > 3, "some don't"


def answer(backend: LocalBackend, prompt: Prompt, options: Options) -> None:
    """One answer as the engine makes it, with every promise about its parts checked."""
    encoded = backend.encode(prompt.views)
    state = backend.prefill(prompt, options, encoded)
    tokens = backend.processor.layout(
        prompt,
        [backend.processor.tile_count(v.shape, single=encoded.single) for v in prompt.views],
        options,
    ).input_ids.shape[1]
    assert 0 < state.tokens_prefilled <= tokens
    for _ in range(STEPS):
        (step,) = backend.step([state])
        assert np.isfinite(step.logprob)
        assert 0 <= step.token_id < backend.processor.config.text_config.vocab_size
    found = backend.segment([state])[0]
    every = (*prompt.views, *prompt.follow)
    assert not found or prompt.views
    marks = sum(token == backend.processor.seg_token_id for token in state.said)
    assert len(found) % max(1, marks) == 0
    for one in found:
        assert one.mask_logits is not None
        assert one.mask_logits.shape == every[one.view].shape
        assert one.mask_logits.dtype == np.float32
        assert np.isfinite(one.mask_logits).all()
        assert 0 <= one.score <= 1
        if one.view < len(prompt.views):
            assert every[one.view].modality != options.sensor_off
    if state.sensor_weights is not None:
        assert np.allclose(state.sensor_weights.sum(axis=0), 1)
    backend.release(state)
