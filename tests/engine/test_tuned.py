"""Adapters in a running engine: the same answers as of the merged model, the base untouched."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from earthmind_lab.conversation import ask
from earthmind_lab.engine import ResidentEngine, load_engine
from earthmind_lab.engine.switch import Switch
from earthmind_lab.errors import (
    EngineBusy,
    EngineError,
    EngineUnavailable,
    ModelNotFound,
    OutOfDeviceMemory,
    UnsafeCheckpoint,
)
from earthmind_lab.exchange import Options, Prompt, Token
from earthmind_lab.replay import replay
from tests.engine import adapted, tiny
from tests.engine.stand_in import StandIn
from tests.engine.test_local import OPTICAL, PROMPTS, SAR, TRIPLE, backend, same

SHORT = Options(max_new_tokens=24)
WAIT = 120
MASKS = ("sam.sam2.mask_decoder.",)
KINDS = {
    "lora": {},
    "rank": {"use_rslora": True, "r": 3},
    "dora": {"use_dora": True},
    "head": {"parts": ("language.lm_head.", "language.model.embed_tokens."), "low": False},
    "pictures": {"parts": ("projector.", "text_head.", *MASKS)},
    "everything": {"parts": ("language.", "vision.", "projector.", "sam.", "text_head."),
                   "low": False},
}  # fmt: skip


@pytest.fixture(scope="session")
def trained(tiny_folder, tmp_path_factory):
    """Run folder and merged model of a kind, each made once."""
    made = {}

    def of(kind: str, seed: int = 1):
        if (kind, seed) not in made:
            base = tmp_path_factory.mktemp(f"{kind}{seed}")
            run, merged = base / f"{kind}{seed}", base / "merged"
            adapted.train(tiny_folder, run, seed=seed, merged=merged, **KINDS[kind])
            made[kind, seed] = run, merged
        return made[kind, seed]

    return of


@pytest.fixture
def make(tiny_folder):
    engines = []

    def build(folder=tiny_folder, *, places=None, **settings) -> ResidentEngine:
        engines.append(ResidentEngine(backend(folder, **settings), places=places))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


def differ(first, second) -> bool:
    ids = first.token_ids != second.token_ids
    return ids or not np.allclose(first.logprobs, second.logprobs, rtol=0, atol=1e-3)


def close(first, second) -> None:
    """The same answer, up to what merging rounds."""
    assert first.token_ids == second.token_ids
    assert np.allclose(first.logprobs, second.logprobs, rtol=0, atol=2e-3)
    assert len(first.objects) == len(second.objects)
    for one, other in zip(first.objects, second.objects, strict=True):
        np.testing.assert_allclose(one.mask_logits, other.mask_logits, rtol=1e-2, atol=5e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_answers_as_the_merged_model_and_the_base_as_before(make, trained, kind):
    run, merged = trained(kind)
    engine, alone = make(), make(merged)
    before = {form: engine.generate(prompt, SHORT) for form, prompt in PROMPTS.items()}
    assert engine.load_adapter(run) == run.name
    found = {
        form: engine.generate(prompt, replace(SHORT, adapter=run.name))
        for form, prompt in PROMPTS.items()
    }
    for form, prompt in PROMPTS.items():
        close(found[form], alone.generate(prompt, SHORT))
        same(engine.generate(prompt, SHORT), before[form], exact=True)
    assert any(differ(found[form], before[form]) for form in PROMPTS)
    assert any(reply.objects for reply in found.values()), "masks were compared, too"
    engine.drop_adapter(run.name)
    fresh = make()
    for prompt in PROMPTS.values():
        same(engine.generate(prompt, SHORT), fresh.generate(prompt, SHORT), exact=True)


def test_answers_of_several_adapters_and_the_base_are_written_together(make, trained):
    adapters = ["", *(trained(*which)[0].name for which in (("lora", 1), ("pictures", 2)))]
    engine = make()
    for which in (("lora", 1), ("pictures", 2)):
        engine.load_adapter(trained(*which)[0])
    asked = [
        (prompt, replace(SHORT, adapter=adapter, seat=seat, temperature=heat, seed=number))
        for number, (seat, heat) in enumerate((("a", 0.0), ("b", 1.0), ("c", 0.0)))
        for prompt in PROMPTS.values()
        for adapter in adapters
    ]
    sizes, raw = [], engine._backend
    step = raw.step
    raw.step = lambda states: (sizes.append(len({s.voice for s in states})), step(states))[1]
    handles = [engine.submit(*each) for each in asked]
    together = [handle.result(WAIT) for handle in handles]
    assert max(sizes) == 3, "all three were under way in one step"
    raw.step = step
    lone = make(places=1)
    for which in (("lora", 1), ("pictures", 2)):
        lone.load_adapter(trained(*which)[0])
    for each, reply in zip(asked, together, strict=True):
        alone = lone.generate(*each)
        assert reply.token_ids == alone.token_ids
        # In such a crowd the merged models themselves differ from their lone selves by 3e-4.
        assert np.allclose(reply.logprobs, alone.logprobs, rtol=0, atol=1e-3)
        for one, other in zip(reply.objects, alone.objects, strict=True):
            np.testing.assert_array_equal(one.mask_logits, other.mask_logits)
        assert reply.adapter == alone.adapter
        assert (reply.adapter.name if reply.adapter else "") == each[1].adapter
    for voice in (raw._voices.base, *raw._voices._tuned.values()):
        assert voice.slots.rows == []


def test_what_an_adapter_leaves_alone_is_shared_and_nothing_else(make, tiny_folder, tmp_path):
    """Visual tokens, mask features, readings: each kept apart exactly where it is another."""
    engine, prompt = make(), PROMPTS["pair"]
    parts = {
        "low": ({}, (0, 0, False)),
        "seg": ({"parts": ("text_head.",), "low": False}, (0, 0, True)),
        "looks": ({"parts": ("projector.",), "low": False}, (3, 0, False)),
        "decoder": ({"parts": ("sam.sam2.mask_decoder.transformer.",), "low": False}, (0, 0, True)),
        "conv": (
            {"parts": ("sam.sam2.mask_decoder.conv_s0.",), "low": False},
            (0, 1, True),
        ),
    }
    first = engine.generate(prompt, SHORT)
    again = engine.generate(prompt, SHORT)
    for name, (kind, (views, masks, readings)) in parts.items():
        engine.load_adapter(adapted.train(tiny_folder, tmp_path / name, **kind))
        reply = engine.generate(prompt, replace(SHORT, adapter=name))
        assert reply.objects
        assert (reply.usage.views_encoded, reply.usage.sam_encodes) == (views, masks), name
        read = again if readings else first
        assert reply.usage.tokens_prefilled == read.usage.tokens_prefilled, name
        kept = engine.generate(prompt, replace(SHORT, adapter=name))
        assert (kept.usage.views_encoded, kept.usage.sam_encodes) == (0, 0)
        same(kept, reply, exact=True)
        same(engine.generate(prompt, SHORT), first, exact=True)


def test_dropping_gives_everything_back(make, trained):
    engine, (run, _) = make(), trained("pictures")
    raw, prompt = engine._backend, PROMPTS["pair"]
    parameters = {name: id(p) for name, p in raw.model.named_parameters()}
    capacity = engine._line._capacity
    engine.generate(prompt, SHORT)
    kept = engine.stats().kept
    name = engine.load_adapter(run, "mine")
    assert engine._line._capacity == raw.capacity() < capacity
    engine.generate(prompt, replace(SHORT, adapter=name))
    assert engine.stats().kept["sam"].entries > kept["sam"].entries
    assert [tuning.name for tuning in engine.stats().adapters] == ["mine"]
    tuned = raw._voices._tuned[engine.adapters["mine"].hash].tuned
    held = [weakref.ref(p) for p in tuned.parts.values()]
    held += [weakref.ref(pair.up) for pair in tuned.pairs.values()]
    del tuned
    engine.drop_adapter("mine")
    gc.collect()
    assert [ref for ref in held if ref() is not None] == []
    assert engine._line._capacity == raw.capacity() == capacity
    for kind, before in kept.items():
        now = engine.stats().kept[kind]
        assert (now.entries, now.nbytes) == (before.entries, before.nbytes), kind
    assert {name: id(p) for name, p in raw.model.named_parameters()} == parameters
    assert not [m for m in raw.model.language.modules() if type(m) is torch.nn.Linear
                and "forward" in vars(m)]  # fmt: skip
    assert engine.adapters == {}


def test_tied_weights_are_swapped_in_both_places(tmp_path):
    fields = {"vocab_size": len(tiny.tokenizer()), "hidden_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    text = {**fields, **heads, "tie_word_embeddings": True, "max_position_embeddings": 2048}
    model = tiny.save(tmp_path / "tied", text_config=text)
    parts = ("language.model.embed_tokens.",)
    run = adapted.train(model, tmp_path / "run", parts=parts, low=False, merged=tmp_path / "merged")
    with_it, alone = (ResidentEngine(backend(f)) for f in (model, tmp_path / "merged"))
    try:
        with_it.load_adapter(run)
        found = with_it.generate(PROMPTS["single"], replace(SHORT, adapter="run"))
        close(found, alone.generate(PROMPTS["single"], SHORT))
    finally:
        with_it.close()
        alone.close()


def test_loading_while_answers_are_under_way_changes_none_of_them(make, trained):
    engine, (run, _) = make(), trained("everything")
    long = Options(max_new_tokens=300)
    prompt = Prompt(text="Tell me everything.", views=(OPTICAL,))
    handle = engine.submit(prompt, long)
    next(event for event in handle.events() if isinstance(event, Token))
    engine.load_adapter(run)
    assert not handle.ended
    adapted_reply = engine.generate(PROMPTS["single"], replace(SHORT, adapter=run.name))
    assert not handle.ended, "both were under way"
    reply, fresh = handle.result(WAIT), make()
    same(reply, fresh.generate(prompt, long), exact=False)
    fresh.load_adapter(run)
    alone = fresh.generate(PROMPTS["single"], replace(SHORT, adapter=run.name))
    same(adapted_reply, alone, exact=False)


def test_an_adapter_in_use_is_not_dropped(make, trained):
    engine, (run, _) = make(), trained("lora")
    name = engine.load_adapter(run)
    options = Options(max_new_tokens=300, adapter=name)
    handle = engine.submit(Prompt(text="Tell me everything.", views=(SAR,)), options)
    next(event for event in handle.events() if isinstance(event, Token))
    with pytest.raises(EngineBusy, match="1 asks"):
        engine.drop_adapter(name)
    assert list(engine.adapters) == [name]
    assert handle.result(WAIT).adapter.name == name
    engine.drop_adapter(name)
    with pytest.raises(ModelNotFound, match="none is loaded"):
        engine.generate(PROMPTS["single"], options)
    with pytest.raises(ModelNotFound):
        engine.drop_adapter(name)


def test_an_ask_that_was_waiting_for_a_dropped_adapter_says_so(make, trained):
    raw = make()._backend
    with pytest.raises(ModelNotFound, match="dropped before"):
        raw.encode((SAR,), "a" * 64)


def test_a_default_adapter_answers_where_the_ask_does_not_say(make, trained):
    engine, (run, _) = make(), trained("lora")
    name = engine.load_adapter(run)
    with pytest.raises(ModelNotFound):
        engine.default_adapter = "other"
    engine.default_adapter = name
    prompt = PROMPTS["single"]
    assert engine.generate(prompt, SHORT).adapter == engine.adapters[name]
    assert engine.generate(prompt, replace(SHORT, adapter="")).adapter is None
    engine.drop_adapter(name)
    assert engine.default_adapter is None
    assert engine.generate(prompt, SHORT).adapter is None


def test_an_adapter_brings_how_it_was_trained(make, tiny_folder, tmp_path):
    about = {"fusion": "weighted", "mask_source": "optical"}
    run = adapted.train(tiny_folder, tmp_path / "run", about=about)
    engine = make()
    engine.load_adapter(run)
    reply = engine.generate(PROMPTS["pair"], replace(SHORT, adapter="run"))
    assert reply.sensor_weights is not None
    assert {found.view for found in reply.objects} == {0}
    plain = replace(SHORT, adapter="run", fusion="concatenate", mask_source="sar")
    reply = engine.generate(PROMPTS["pair"], plain)
    assert reply.sensor_weights is None
    assert {found.view for found in reply.objects} == {2}


def test_names(make, trained):
    engine, (run, _) = make(), trained("lora")
    other = trained("lora", 2)[0]
    for name in ("a:b", "", "../x", "a b", "x" * 101):
        with pytest.raises(EngineError, match="no name"):
            engine.load_adapter(run, name)
    assert engine.load_adapter(run / "adapter") == "lora1"
    assert engine.load_adapter(run) == "lora1", "once more is the same"
    for path, name in ((other, "lora1"), (run, "another")):
        with pytest.raises(EngineError, match="drop_adapter"):
            engine.load_adapter(path, name)
    assert engine.load_adapter(other, "wald") == "wald"
    digest = engine.adapters["wald"].hash
    assert digest == adapted.about(other / "adapter")["hash"]
    assert engine.generate(PROMPTS["single"], replace(SHORT, adapter=digest)).adapter.name == "wald"


# --- what is refused ------------------------------------------------------------------------------


def _config(**change):
    def apply(folder):
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    return apply


def _about(**change):
    return lambda folder: (folder / "earthmind.json").write_text(
        json.dumps({**adapted.about(folder), **change})
    )


def _tensors(change, name="adapter_model.safetensors"):
    return lambda folder: adapted.rewrite(folder, name, change)


def _first(tensors, end="lora_A.weight"):
    return next(name for name in sorted(tensors) if name.endswith(end))


def _cut(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def _flip(folder):
    file = folder / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _pickled(folder):
    (folder / "adapter_model.safetensors").unlink()
    (folder / "earthmind.json").unlink()
    torch.save({}, folder / "adapter_model.bin")


def _renamed_pickle(folder):
    torch.save({}, folder / "adapter_model.safetensors")


def _more(folder):
    save_file({"vision.nothing": torch.ones(3)}, folder / "parts.safetensors")
    adapted.seal(folder, {k: v for k, v in adapted.about(folder).items() if k != "hash"})


A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
WRONG = {
    "other weights": (_about(weights="0" * 64), EngineError, "other weights"),
    "changed": (_flip, EngineError, "changed since"),
    "cut off": (_cut, ModelNotFound, "cut off"),
    "pickle": (_pickled, UnsafeCheckpoint, "can run code"),
    "pickle by another name": (_renamed_pickle, UnsafeCheckpoint, "something else"),
    "no about": (lambda f: (f / "earthmind.json").unlink(), ModelNotFound, "no earthmind.json"),
    "about of a list": (lambda f: (f / "earthmind.json").write_text("[]"), EngineError, "describe"),
    "about of a number": (_about(hash=3), EngineError, "describe"),
    "strange fusion": (_about(fusion="boil"), EngineError, "describe"),
    "no json": (lambda f: (f / "earthmind.json").write_text("{"), ModelNotFound, "can't be read"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), ModelNotFound, "no model"),
    "another kind": (_config(peft_type="IA3"), EngineError, "peft_type: IA3"),
    "modules": (_config(modules_to_save=["lm_head"]), EngineError, "modules_to_save"),
    "ranks": (_config(rank_pattern={"q_proj": 2}), EngineError, "rank_pattern"),
    "pissa": (_config(init_lora_weights="pissa"), EngineError, "init_lora_weights"),
    "rank of text": (_config(r="4"), EngineError, "r: 4"),
    "another rank": (_config(r=8), EngineError, "another architecture"),
    "alpha": (_config(lora_alpha=float("nan")), EngineError, "lora_alpha"),
    "dora without magnitudes": (_config(use_dora=True), EngineError, "another architecture"),
    "not finite": (_tensors(lambda t: {**t, A: t[A] * float("nan")}), EngineError, "no numbers"),
    "integers": (_tensors(lambda t: {**t, A: t[A].long()}), EngineError, "I64"),
    "shape": (_tensors(lambda t: {**t, A: t[A][:, :-1].contiguous()}), EngineError, "(4, 31)"),
    "left over": (_tensors(lambda t: {**t, "evil": t[A]}), EngineError, "evil"),
    "half a pair": (
        _tensors(lambda t: {n: x for n, x in t.items() if n != A}), EngineError, "lora_A",
    ),
    "a layer more": (
        _tensors(lambda t: {**t, A.replace("layers.0", "layers.9"): t[A]}), EngineError, "layers.9",
    ),
    "twice": (
        _tensors(lambda t: {**t, A.removesuffix(".weight"): t[A]}), EngineError, "lora_A",
    ),
    "no part of the model": (_more, EngineError, "vision.nothing"),
    "empty": (_tensors(lambda t: {}), ModelNotFound, "no weights"),
    "nothing there": (shutil.rmtree, ModelNotFound, "no adapter"),
}  # fmt: skip


@pytest.fixture(scope="module")
def resident(tiny_folder):
    engine = ResidentEngine(backend(tiny_folder))
    yield engine
    engine.close()


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_and_the_engine_is_as_it_was(
    resident, trained, tmp_path, case
):
    breaking, kind, words = WRONG[case]
    shutil.copytree(trained("lora")[0], tmp_path / "run")
    before = resident.generate(PROMPTS["single"], SHORT)
    breaking(tmp_path / "run" / "adapter")
    with pytest.raises(kind) as told:
        resident.load_adapter(tmp_path / "run")
    assert words in str(told.value)
    assert type(told.value) is kind
    assert told.value.change
    assert resident.adapters == {}
    assert resident._backend._voices._tuned == {}
    same(resident.generate(PROMPTS["single"], SHORT), before, exact=True)


def test_an_adapter_of_another_size_of_model(make, trained, tmp_path):
    """Its hash says so; with that forged, its shapes do."""
    other = tiny.save(tmp_path / "other", seed=5)
    engine, run = make(other), tmp_path / "run"
    shutil.copytree(trained("lora")[0], run)
    with pytest.raises(EngineError, match="other weights"):
        engine.load_adapter(run)
    _about(weights=engine.capabilities.weight_hash)(run / "adapter")
    adapted.rewrite(run / "adapter", "adapter_model.safetensors", lambda t: {
        n: x.repeat(1, 2) if n.endswith("A.weight") else x for n, x in t.items()
    })  # fmt: skip
    with pytest.raises(EngineError, match="another architecture"):
        engine.load_adapter(run)


def test_memory_is_admitted(make, trained):
    run = trained("everything")[0]
    plenty = make()
    plenty.load_adapter(run)
    nbytes = plenty._backend._voices._tuned[plenty.adapters[run.name].hash].tuned.nbytes
    least = plenty._backend._footprint.pair + plenty._backend._footprint.workspace
    small = make(free=int((least + nbytes // 2) / 0.9), cache_bytes=0)
    with pytest.raises(OutOfDeviceMemory, match="does not fit beside the model"):
        small.load_adapter(run)
    enough = make(free=int((least + 2 * nbytes) / 0.9), cache_bytes=0)
    before = enough._backend.capacity()
    assert enough._line.resize(-1) and enough._line.resize(1)
    holding = threading.Event()
    held, step = threading.Event(), enough._backend.step
    enough._backend.step = lambda states: (holding.set(), held.wait(0.01), step(states))[2]
    needs = enough._backend.needs
    enough._backend.needs = lambda *given: before - nbytes // 2  # an ask that takes nearly all
    handle = enough.submit(PROMPTS["single"], Options(max_new_tokens=500))
    enough._backend.needs = needs
    assert holding.wait(WAIT)
    with pytest.raises(OutOfDeviceMemory, match="beside the asks"):
        enough.load_adapter(run)
    assert not handle.ended
    held.set()
    assert handle.result(WAIT).text is not None
    enough.load_adapter(run)
    assert enough._backend.capacity() == before - nbytes


def test_a_device_that_is_full_after_all_leaves_the_engine_as_it_was(make, trained, monkeypatch):
    engine, run = make(), trained("pictures")[0]
    before = engine.generate(PROMPTS["single"], SHORT)
    capacity = engine._line._capacity

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patched:
        patched.setattr("earthmind_lab.engine.switch.Tuned.of", full)
        with pytest.raises(OutOfDeviceMemory):
            engine.load_adapter(run)
    assert (engine.adapters, engine._line._capacity) == ({}, capacity)
    same(engine.generate(PROMPTS["single"], SHORT), before, exact=True)
    engine.load_adapter(run)


def test_other_models_take_none_and_closed_engines_neither(run, make, trained):
    folder = trained("lora")[0]
    with pytest.raises(EngineError, match="takes no adapters"):
        run(StandIn(reply=lambda _: "x<|end|>")).load_adapter(folder)
    engine = make()
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.load_adapter(folder)


def test_a_worker_that_is_killed_while_it_switches_leaves_no_mixture(make, trained, monkeypatch):
    engine, run = make(), trained("everything")[0]
    before = engine.generate(PROMPTS["pair"], SHORT)
    name = engine.load_adapter(run)
    chosen = replace(SHORT, adapter=name)
    alone = engine.generate(PROMPTS["pair"], chosen)
    engine.generate(PROMPTS["single"], SHORT)
    real, deaths = Switch.to, []

    def dying(switch, tuned):
        if tuned is not None and len(deaths) < 2:
            deaths.append(tuned)
            places = switch._places
            try:  # half of the weights are those of the adapter when the thread ends
                switch._places = dict(list(places.items())[: len(places) // 2])
                real(switch, tuned)
            finally:
                switch._places, switch._sure = places, False
            raise SystemExit
        real(switch, tuned)

    monkeypatch.setattr(Switch, "to", dying)
    handles = [engine.submit(PROMPTS["pair"], each) for each in (chosen, SHORT, chosen)]
    for handle, wanted in zip(handles, (alone, before, alone), strict=True):
        same(handle.result(WAIT), wanted, exact=False)
    assert len(deaths) == 2


# --- what is told of it ---------------------------------------------------------------------------


def test_a_record_names_the_adapter_and_replay_finds_it_or_refuses(tiny_folder, trained, tmp_path):
    from PIL import Image

    Image.fromarray(OPTICAL.image).save(tmp_path / "picture.png")
    engine, run = load_engine(tiny_folder), trained("lora")[0]
    try:
        name = engine.load_adapter(run, "wald")
        chosen = Options(max_new_tokens=8, adapter=name)
        picture, question = tmp_path / "picture.png", "Is there water?"
        record = ask(picture, question, engine=engine, options=chosen).record
        digest = engine.adapters[name].hash
        assert record.model["adapter"] == {"name": "wald", "hash": digest}
        assert "adapter" not in record.options
        plain = ask(picture, question, engine=engine).record
        assert "adapter" not in plain.model
        engine.drop_adapter("wald")
        gone = replay(record, engine=engine)
        assert (gone.same, gone.answer) == (False, None)
        assert gone.differences[-1].startswith("model: There is no adapter")
        engine.default_adapter = engine.load_adapter(run, "under_another_name")
        again = replay(record, engine=engine)
        assert (again.same, again.differences) == (True, ())
        assert replay(plain, engine=engine).same, "by the model itself, whatever the default is"
    finally:
        engine.close()


def test_turns_of_a_conversation_with_adapters_keep_apart(make, trained):
    """A follow-up goes on from what its own adapter has read."""
    from earthmind_lab.exchange import Turn

    engine, run = make(), trained("lora")[0]
    name = engine.load_adapter(run)
    prompt, options = Prompt(text="What is it?", views=TRIPLE), Options(max_new_tokens=6)
    replies = {a: engine.generate(prompt, replace(options, adapter=a)) for a in ("", name)}
    for adapter, reply in replies.items():
        turn = Turn(question=prompt.text, reply=reply.raw)
        follow = replace(prompt, text="And?", history=(turn,))
        chosen = replace(options, adapter=adapter)
        found = engine.generate(follow, chosen)
        fresh = make()
        fresh.load_adapter(run)
        alone = fresh.generate(follow, chosen)
        same(found, alone, exact=False)
        assert found.usage.tokens_prefilled < alone.usage.tokens_prefilled
