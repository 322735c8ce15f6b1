"""A LLaVA of a few thousand random weights in EarthMind's seat."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from earthmind_lab.engine.adapters import TransformersBackend, open_adapter
from earthmind_lab.engine.resident import ResidentEngine
from earthmind_lab.errors import Cancelled, EngineError, OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Options, Prompt, Region, Turn, View
from tests.engine.meter import Meter

WORDS = Path(__file__).parents[1] / "golden" / "parity" / "tiny_a.tokenizer.json"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "little-llava"
    words = PreTrainedTokenizerFast(
        tokenizer_file=str(WORDS), pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    words.add_tokens(["<image>"], special_tokens=True)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=words,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(target)
    torch.manual_seed(3)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2}
    LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=16, intermediate_size=32, image_size=32, patch_size=8, **sizes
            ),
            text_config=LlamaConfig(
                vocab_size=len(words), hidden_size=32, intermediate_size=48, **sizes
            ),
            image_token_id=words.convert_tokens_to_ids("<image>"),
        )
    ).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def backend(folder: Path) -> TransformersBackend:
    return open_adapter(folder)


def view(modality: str = "optical", seed: int = 0) -> View:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return View(image=pixels, name=f"{modality}-{seed}", modality=modality)  # type: ignore[arg-type]


def steps(
    backend: TransformersBackend, prompt: Prompt, count: int = 8, **options: object
) -> list[int]:
    chosen = Options(**options)  # type: ignore[arg-type]
    state = backend.prefill(prompt, chosen, backend.encode(prompt.views))
    ids = [backend.step([state])[0].token_id for _ in range(count)]
    backend.release(state)
    return ids


def test_steps_are_those_of_generate(backend: TransformersBackend) -> None:
    shown = view()
    content = [
        {"type": "image", "image": Image.fromarray(shown.image)},
        {"type": "text", "text": "What is it?"},
    ]
    inputs = backend.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    whole = backend.model.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=None)
    wanted = whole[0, inputs["input_ids"].shape[1] :].tolist()
    assert steps(backend, Prompt(text="What is it?", views=(shown,))) == wanted


def test_pictures_history_and_sensor_choice_matter(backend: TransformersBackend) -> None:
    pair = (view("optical"), view("sar", 1))

    def logits(prompt: Prompt, **options: object) -> torch.Tensor:
        chosen = Options(**options)  # type: ignore[arg-type]
        return backend.prefill(prompt, chosen, backend.encode(prompt.views)).logits

    both = logits(Prompt(text="Q", views=pair))
    assert not torch.equal(both, logits(Prompt(text="Q", views=(pair[0], view("sar", 2)))))
    alone = logits(Prompt(text="Q", views=pair[:1]))
    assert torch.equal(alone, logits(Prompt(text="Q", views=pair), sensor_off="sar"))
    turn = Turn(question="Is it wet?", reply="No.")
    assert not torch.equal(both, logits(Prompt(text="Q", views=pair, history=(turn,))))
    assert logits(Prompt(text="No picture at all?")).isfinite().all()


def test_sampling_repeats_with_its_seed(backend: TransformersBackend) -> None:
    prompt = Prompt(text="Q", views=(view(),))
    drawn = [steps(backend, prompt, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_it_cannot_do_is_said(backend: TransformersBackend) -> None:
    region = Region(mask=np.ones((30, 40), bool))
    with pytest.raises(PromptError, match="takes no regions"):
        steps(backend, Prompt(text="Q", views=(view(),), regions=(region,)))
    with pytest.raises(PromptError, match="fuse sensors by weight"):
        steps(backend, Prompt(text="Q", views=(view(),)), fusion="weighted")
    state = backend.prefill(Prompt(text="Q"), Options(), backend.encode(()))
    with pytest.raises(EngineError, match="in the middle of its answer"):
        backend.extend(state, torch.zeros(1, 1, 32))
    assert backend.segment([state, state]) == [(), ()]


def test_answers_in_company_equal_each_alone(backend: TransformersBackend) -> None:
    prompts = [Prompt(text=text, views=(view(seed=i),)) for i, text in enumerate(("Q", "R?", "S"))]
    alone = [steps(backend, prompt, temperature=0.5, seed=7) for prompt in prompts]
    options = Options(temperature=0.5, seed=7)
    states = [backend.prefill(prompt, options, backend.encode(prompt.views)) for prompt in prompts]
    written = [[step.token_id for step in backend.step(states)] for _ in range(8)]
    assert [list(ids) for ids in zip(*written, strict=True)] == alone


def test_a_step_that_fails_leaves_every_answer_as_it_was(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt(text=text, views=(view(seed=i),)) for i, text in enumerate(("Q", "R?"))]
    alone = [steps(backend, prompt) for prompt in prompts]
    states = [
        backend.prefill(prompt, Options(), backend.encode(prompt.views)) for prompt in prompts
    ]
    layer = backend.model.model.language_model.layers[1].mlp
    forward, calls = layer.forward, itertools.count()

    def full(hidden: torch.Tensor) -> torch.Tensor:
        if next(calls) % 3 == 1:  # in turn each of the two, and none
            raise torch.OutOfMemoryError("full")
        return forward(hidden)

    monkeypatch.setattr(layer, "forward", full)
    written, failed = [], 0
    while len(written) < 8:
        try:
            written.append([step.token_id for step in backend.step(states)])
        except OutOfDeviceMemory:
            failed += 1
    assert failed >= 4
    assert [list(ids) for ids in zip(*written, strict=True)] == alone


def test_one_that_cannot_choose_takes_no_token_from_the_others(
    backend: TransformersBackend,
) -> None:
    """The engine tries each alone after that, so a token taken here would be lost."""
    prompt, warm = Prompt(text="Q", views=(view(),)), Options(temperature=1.5, seed=4)
    asked = [Options(), warm, Options(temperature=1.0)]
    alone = [steps(backend, prompt), steps(backend, prompt, temperature=1.5, seed=4)]
    *good, broken = [backend.prefill(prompt, one, backend.encode(prompt.views)) for one in asked]
    backend.step([*good, broken])
    pass_of = backend._read

    def numberless(state: object) -> None:
        pass_of(state)
        if state is broken:
            broken.logits = torch.full_like(broken.logits, torch.nan)

    backend._read = numberless  # type: ignore[method-assign]
    try:
        with pytest.raises(RuntimeError, match="nan"):
            backend.step([*good, broken])
    finally:
        del backend._read
    written = [[step.token_id for step in backend.step(good)] for _ in range(6)]
    assert [list(ids) for ids in zip(*written, strict=True)] == [ids[1:7] for ids in alone]


@pytest.mark.parametrize("temperature", [1e-7, 1e-40, 5e-324])
def test_next_to_no_temperature_is_greedy(backend: TransformersBackend, temperature: float) -> None:
    prompt = Prompt(text="Q", views=(view(),))
    assert steps(backend, prompt, temperature=temperature) == steps(backend, prompt)


def test_a_model_that_counts_in_itself_counts_for_each_answer(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Qwen's do: what a pass leaves in the model must be there at the next of that answer."""
    inner = backend.model.model
    monkeypatch.setattr(inner, "rope_deltas", None, raising=False)
    counting = TransformersBackend(backend.model, backend.processor, backend.capabilities)
    forward = backend.model.forward

    def marking(*args: object, **kwargs: object) -> object:
        ids = kwargs["input_ids"]
        if inner.rope_deltas is None:
            inner.rope_deltas = int(ids.sum())
        found.append(inner.rope_deltas)
        return forward(*args, **kwargs)

    found: list[int] = []
    monkeypatch.setattr(backend.model, "forward", marking)
    states = [
        counting.prefill(Prompt(text=text), Options(), counting.encode(())) for text in ("Q", "R?")
    ]
    counting.step(states)
    counting.step(states)
    assert found == found[:2] * 2
    assert found[0] != found[1]


def test_what_it_needs_is_more_than_what_it_holds(backend: TransformersBackend) -> None:
    prompt, options = Prompt(text="What is it?", views=(view(),)), Options(max_new_tokens=8)
    needed = backend.needs(prompt, options)
    with Meter() as meter:
        state = backend.prefill(prompt, options, backend.encode(prompt.views))
        for _ in range(8):
            backend.step([state])
    assert 0 < meter.peak <= needed
    assert needed < backend.capacity()
    assert backend.needs(replace(prompt, text="What? " * 99), options) > needed
    full = TransformersBackend(backend.model, backend.processor, backend.capabilities, free=needed)
    with pytest.raises(OutOfDeviceMemory, match="even alone"):
        full.needs(prompt, options)
    assert backend.kept() == {}


def test_it_answers_inside_the_engine(folder: Path) -> None:
    engine = ResidentEngine(open_adapter(folder))
    try:
        prompt = Prompt(text="What is it?", views=(view(),))
        reply = engine.generate(prompt, Options(max_new_tokens=6))
        assert 0 < len(reply.token_ids) <= 6
        assert reply.objects == ()
        assert reply.usage.views_encoded == 1
        assert "no masks" in engine.capabilities.notice
        assert len(engine.revision) == 12
    finally:
        engine.close()


def test_other_folders_are_refused(tmp_path: Path, folder: Path) -> None:
    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(EngineError, match="make no model"):
            open_adapter(tmp_path)
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "chat_template.jinja").unlink()
        with pytest.raises(EngineError, match="chat template"):
            open_adapter(tmp_path)
    finally:
        logging.disable(logging.NOTSET)


def test_a_cancel_in_the_middle_of_a_pass(folder: Path) -> None:
    """Between any two layers, of pictures and of text; the next ask is right."""
    backend = open_adapter(folder)
    engine, prompt = ResidentEngine(backend), Prompt(text="What is it?", views=(view(),))
    options, layers = Options(max_new_tokens=4), 2 + 2
    try:
        wanted = engine.generate(prompt, options)
        for number in range(layers):
            reached: list[int] = []

            def stop(reached: list[int] = reached, number: int = number) -> None:
                reached.append(number)
                if len(reached) == number + 1:
                    engine._turns._in_hand[0].ask.cancel()
                engine._turns.heed()

            backend.listen(stop)
            with pytest.raises(Cancelled):
                engine.generate(prompt, options)
            assert len(reached) == number + 1
        backend.listen(engine._turns.heed)
        assert engine.generate(prompt, options).token_ids == wanted.token_ids
    finally:
        engine.close()
