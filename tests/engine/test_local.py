from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from earthmind_lab.engine import ResidentEngine, load_engine, loading, local
from earthmind_lab.engine.local import LocalBackend
from earthmind_lab.errors import Cancelled, OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Done, Options, Prompt, Region, Reply, Token, Turn
from tests.engine import tiny

OPTICAL, FALSE_COLOUR, SAR = (
    tiny.view("optical", seed=1),
    tiny.view("optical", seed=2),
    tiny.view("sar", seed=3),
)
TRIPLE = (OPTICAL, FALSE_COLOUR, SAR)
SHORT = Options(max_new_tokens=24)


def backend(folder, **settings) -> LocalBackend:
    files = loading._files(folder)
    key = loading._Key(
        folder=folder, weight_hash=loading.weight_hash(files), device="cpu", dtype="float32"
    )
    loaded = loading._load(key)
    return LocalBackend(loaded.model, loaded.processor, loaded.capabilities, **settings)


@pytest.fixture
def make(tiny_folder):
    """Fresh engines over the tiny model."""
    engines = []

    def build(folder=tiny_folder, **settings) -> ResidentEngine:
        engines.append(ResidentEngine(backend(folder, **settings)))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


def same(first: Reply, second: Reply, *, exact: bool) -> None:
    tolerance = 0.0 if exact else 1e-5
    assert first.token_ids == second.token_ids
    assert np.allclose(first.logprobs, second.logprobs, rtol=0, atol=tolerance)
    assert len(first.objects) == len(second.objects)
    for one, other in zip(first.objects, second.objects, strict=True):
        np.testing.assert_allclose(one.mask_logits, other.mask_logits, rtol=0, atol=tolerance)


PROMPTS = {
    "single": Prompt(text="Segment the water.", views=(SAR,)),
    "frames": Prompt(text="Segment the water.", views=(OPTICAL, FALSE_COLOUR)),
    "pair": Prompt(text="Segment the water.", views=TRIPLE),
    "region": Prompt(
        text="What is region1?", views=TRIPLE, regions=(Region(mask=np.eye(64, dtype=bool)),)
    ),
}


@pytest.mark.parametrize("form", PROMPTS)
def test_a_second_question_costs_the_question_and_answers_the_same(make, form):
    prompt = PROMPTS[form]
    fresh, used = make(), make()
    other = replace(prompt, text="Is there any snow in this place?")
    first = used.generate(other, SHORT)
    second = used.generate(prompt, SHORT)
    alone = fresh.generate(prompt, SHORT)
    same(second, alone, exact=True)
    assert first.usage.views_encoded == alone.usage.views_encoded == len(prompt.views)
    assert second.usage.views_encoded == 0
    pictures = first.usage.tokens_prefilled - second.usage.tokens_prefilled
    assert pictures > 4 * len(prompt.views), "the pictures were not read again"
    assert second.usage.tokens_prefilled < alone.usage.tokens_prefilled


def test_masks_cost_one_encode_per_view(make):
    engine = make()
    first = engine.generate(PROMPTS["pair"], SHORT)
    second = engine.generate(PROMPTS["pair"], SHORT)
    assert first.objects, "the tiny model writes marks"
    assert (first.usage.sam_encodes, second.usage.sam_encodes) == (1, 0)
    same(first, second, exact=True)
    for found in first.objects:
        assert found.view == 2, "the SAR view draws the masks"
        assert found.mask_logits.shape == (64, 64)
        assert found.mask_logits.dtype == np.float32
        assert 0 <= found.score <= 1


def test_the_mask_view_follows_the_options(make):
    options = replace(SHORT, mask_source="optical")
    reply = make().generate(PROMPTS["pair"], options)
    assert {found.view for found in reply.objects} == {0}
    off = make().generate(PROMPTS["pair"], replace(SHORT, sensor_off="sar"))
    assert {found.view for found in off.objects} <= {0}
    assert off.usage.views_encoded == 2


def test_a_follow_up_reads_only_what_is_new(make):
    prompt, options = PROMPTS["pair"], Options(max_new_tokens=6)
    used = make()
    first = used.generate(prompt, options)
    turn = Turn(question=prompt.text, reply=first.text)
    follow = replace(prompt, text="And?", history=(turn,))
    reply = used.generate(follow, options)
    alone = make().generate(follow, options)
    same(reply, alone, exact=False)
    assert reply.usage.views_encoded == 0
    # The reply's marks are not in its text, so at most question and reply are read again.
    assert reply.usage.tokens_prefilled < alone.usage.tokens_prefilled - 12
    again = used.generate(follow, options)
    assert again.usage.tokens_prefilled == 1, "the very same follow-up: only its last token"
    same(again, alone, exact=False)


def test_a_follow_up_without_pictures_goes_on_from_its_own_conversation(make):
    """Also when others have been read since."""
    used, options = make(), Options(max_new_tokens=6)
    turn = Turn(question="Is it wet in there?", reply="Yes, some of it is.")
    follow = Prompt(text="And?", history=(turn,))
    raw = used._backend
    content = raw.processor.layout(follow, []).input_ids[0]
    state = raw.prefill(follow, options, raw.encode(()))
    raw.step([state])
    raw._voices.base.readings.keep(state.row, content, 0)
    raw.release(state)
    used.generate(PROMPTS["single"], options)  # read last, and begins with the same tokens
    reply = used.generate(follow, options)
    assert reply.usage.tokens_prefilled == 1
    same(reply, make().generate(follow, options), exact=False)


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_fewer_frames_than_before_are_asked_about_as_if_for_the_first_time(
    make, seed, count, between
):
    """Read with more frames their keys and values differ, also when a follow-up took them over."""
    frames = tuple(tiny.view("optical", seed=100 + seed * 10 + i) for i in range(5))
    used, fewer = make(), Prompt(text="Segment the water.", views=frames[:count])
    used.generate(replace(fewer, views=frames), SHORT)
    if between:
        turn = Turn(question="What is here?", reply="Water.")
        used.generate(replace(fewer, history=(turn,)), SHORT)
    first, again, alone = (engine.generate(fewer, SHORT) for engine in (used, used, make()))
    same(first, alone, exact=True)
    same(again, alone, exact=True)
    assert first.usage.tokens_prefilled == alone.usage.tokens_prefilled
    assert again.usage.tokens_prefilled < alone.usage.tokens_prefilled - 4 * count
    more = used.generate(replace(fewer, views=frames), SHORT)
    assert more.usage.tokens_prefilled == again.usage.tokens_prefilled, "both are kept"


def test_a_reply_that_is_plain_text_is_not_read_again(make, tiny_folder):
    prompt = PROMPTS["pair"]
    engine = make()
    raw = engine._backend
    first = raw.prefill(prompt, Options(), raw.encode(prompt.views))
    first.said += raw.processor.encode_plain("Yes, some.")  # as if the model had written it
    raw.step([first])  # reads it, and the next token is unread
    raw.release(first)
    follow = replace(prompt, text="How?", history=(Turn(question=prompt.text, reply="Yes, some."),))
    state = raw.prefill(follow, Options(), raw.encode(prompt.views))
    new = "<|end|>\n<|user|>\nHow?<|end|>\n<|assistant|>\n"
    assert state.tokens_prefilled == len(raw.processor.encode_plain(new))


def test_other_pixels_other_region_other_order_share_nothing_wrong(make):
    """What a position holds decides, not its token id: placeholders all look alike."""
    used = make()
    for prompt in (
        PROMPTS["pair"],
        replace(PROMPTS["pair"], views=(tiny.view("optical", seed=9), FALSE_COLOUR, SAR)),
        replace(PROMPTS["pair"], views=(FALSE_COLOUR, OPTICAL, SAR)),
        PROMPTS["region"],
        replace(PROMPTS["region"], regions=(Region(mask=np.tri(64, dtype=bool)),)),
        PROMPTS["frames"],
        replace(PROMPTS["pair"], views=(OPTICAL, SAR)),
    ):
        same(used.generate(prompt, SHORT), make().generate(prompt, SHORT), exact=True)


def test_a_follow_up_about_another_region_of_the_same_size_is_read_anew(make):
    corner = np.zeros((64, 64), bool)
    corner[:32, :32] = True
    used, options = make(), Options(max_new_tokens=6)
    for mask in (corner, corner[::-1, ::-1]):
        prompt = replace(
            PROMPTS["region"],
            regions=(Region(mask=mask),),
            history=(Turn(question="What is here?", reply="Water."),),
        )
        reply = used.generate(prompt, options)
        same(reply, make().generate(prompt, options), exact=False)
    pictures = 3 * 4 + len("<|user|>\n") + 2
    everything = reply.usage.tokens_prefilled + pictures
    assert len(used._backend.processor.layout(prompt, [1, 1, 1]).input_ids[0]) > everything


def test_pictures_and_question_are_read_apart_even_without_a_cache(make, monkeypatch):
    """Two reads of other lengths round otherwise, and a mask at its threshold would differ."""
    raw, prompt, lengths = make()._backend, PROMPTS["pair"], []
    forward = raw.model.language.model.forward

    def counting(*args, **kwargs):
        lengths.append(kwargs["inputs_embeds"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(raw.model.language.model, "forward", counting)
    layout = raw.processor.layout(prompt, [1, 1, 1])
    start, total = layout.question_start, layout.input_ids.shape[1]
    for _ in range(2):
        raw.step([raw.prefill(prompt, SHORT, raw.encode(prompt.views))])
    assert lengths == [start, total - start, total - start]


def test_weighted_fusion_returns_weights_and_depends_on_the_question(make):
    used, options = make(), replace(SHORT, fusion="weighted")
    prompt = replace(PROMPTS["pair"], views=(OPTICAL, SAR))
    first = used.generate(prompt, options)
    side = 2  # 64 px, vision patch 16, pixel shuffle 2
    assert first.sensor_weights.shape == (2, side, side)
    np.testing.assert_allclose(first.sensor_weights.sum(axis=0), 1, atol=1e-6)
    other = replace(prompt, text="Is there snow?")
    second = used.generate(other, options)
    assert second.usage.views_encoded == 0
    assert second.usage.tokens_prefilled > len(other.text)
    same(second, make().generate(other, options), exact=True)


def test_weighted_fusion_of_two_sar_views_is_refused(make):
    views = (*TRIPLE, tiny.view("sar", seed=4))
    with pytest.raises(PromptError, match="one SAR view"):
        make().generate(replace(PROMPTS["pair"], views=views), Options(fusion="weighted"))


def test_sampling_repeats_with_its_seed(make):
    engine = make()
    warm = Options(max_new_tokens=20, temperature=1.0, seed=1)
    first = engine.generate(PROMPTS["pair"], warm)
    assert engine.generate(PROMPTS["pair"], warm).token_ids == first.token_ids
    assert engine.generate(PROMPTS["pair"], replace(warm, seed=2)).token_ids != first.token_ids


@pytest.mark.parametrize("temperature", [1e-7, 1e-40])
def test_next_to_no_temperature_is_greedy(make, temperature):
    engine = make()
    cold = engine.generate(PROMPTS["pair"], replace(SHORT, temperature=temperature))
    assert cold.token_ids == engine.generate(PROMPTS["pair"], SHORT).token_ids


def test_greedy_takes_the_likeliest_token_and_says_its_probability(make):
    engine = make()
    raw, prompt = engine._backend, PROMPTS["single"]
    reply = engine.generate(prompt, Options(max_new_tokens=3))
    layout = raw.processor.layout(prompt, [1])
    pixels = torch.from_numpy(raw.processor.pixel_values(SAR))
    with torch.inference_mode():
        tokens = {(0, 0): raw.model.encode_views(pixels)[0]}
        ids = torch.from_numpy(layout.input_ids)
        embeds = raw.model.embed(ids, layout.slots(tokens))
        for token, logprob in zip(reply.token_ids, reply.logprobs, strict=True):
            logits = raw.model(inputs_embeds=embeds, use_cache=False).logits[0, -1]
            assert int(logits.argmax()) == token
            assert float(logits.log_softmax(-1)[token]) == pytest.approx(logprob, abs=1e-5)
            embeds = torch.cat([embeds, raw.model.embed(torch.tensor([[token]]))], dim=1)


def test_a_mark_at_the_very_end_has_its_mask(make):
    engine = make()
    seg = engine._backend.processor.seg_token_id
    ids = engine.generate(PROMPTS["pair"], Options(max_new_tokens=64)).token_ids
    reply = engine.generate(PROMPTS["pair"], Options(max_new_tokens=ids.index(seg) + 1))
    assert reply.token_ids[-1] == seg
    assert len(reply.objects) == reply.token_ids.count(seg) == 1


def test_masks_are_those_of_the_model_called_by_hand(make):
    engine = make()
    raw, prompt = engine._backend, PROMPTS["single"]
    reply = engine.generate(prompt, SHORT)
    ids = torch.tensor([[*raw.processor.layout(prompt, [1]).input_ids[0], *reply.token_ids]])
    with torch.inference_mode():
        pixels = torch.from_numpy(raw.processor.pixel_values(SAR))
        embeds = raw.model.embed(ids, raw.model.encode_views(pixels)[0])
        hidden = raw.model(inputs_embeds=embeds).last_hidden_state[0]
        marks = hidden[ids[0] == raw.processor.seg_token_id]
        features = raw.model.segment_features(torch.from_numpy(raw.processor.sam_pixel_values(SAR)))
        logits, iou, _ = raw.model.segment(features, marks)
        masks = raw.model.resize_logits(logits, (64, 64)).numpy()
    assert len(reply.objects) == len(masks) > 0
    for found, mask, score in zip(reply.objects, masks, iou.tolist(), strict=True):
        np.testing.assert_allclose(found.mask_logits, mask, atol=1e-5)
        assert found.score == pytest.approx(min(max(score, 0), 1), abs=1e-6)


def test_extended_answers_go_on_and_are_not_mistaken_for_others(make):
    engine = make()
    raw, prompt = engine._backend, PROMPTS["single"]
    state = raw.prefill(prompt, Options(), raw.encode(prompt.views))
    before = raw.step([state])[0]
    raw.extend(state, torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0)))
    raw.step([state])
    assert state.row.length == len(raw.processor.layout(prompt, [1]).input_ids[0]) + 1 + 3
    raw.release(state)
    assert engine.generate(prompt, SHORT).token_ids[0] == before.token_id


def test_the_cache_keeps_within_its_bytes_and_answers_stay_the_same(make):
    small, large = make(cache_bytes=60_000), make()
    for seed in range(4):
        prompt = Prompt(text="Segment it.", views=(tiny.view("sar", seed=seed),))
        same(small.generate(prompt, SHORT), large.generate(prompt, SHORT), exact=True)
        assert small._backend.cache.nbytes <= 60_000
    none = make(cache_bytes=0)
    for _ in range(2):
        reply = none.generate(PROMPTS["pair"], SHORT)
        assert reply.usage.views_encoded == 3
        same(reply, large.generate(PROMPTS["pair"], SHORT), exact=True)


def test_a_longer_reading_replaces_the_shorter_one(make):
    engine = make()
    raw = engine._backend
    for tokens in (4, 12):
        engine.generate(PROMPTS["pair"], Options(max_new_tokens=tokens))
    assert len(list(raw.cache.items("read"))) == 1


def test_cancel_stops_within_one_step(make):
    engine = make()
    raw = engine._backend
    stepped, wanted = [], threading.Event()
    step = raw.step

    def counting(states):
        result = step(states)
        stepped.append(1)
        if len(stepped) == 5:
            handle.cancel()
            wanted.set()
        return result

    raw.step = counting
    handle = engine.submit(PROMPTS["pair"], Options(max_new_tokens=200))
    with pytest.raises(Cancelled):
        handle.result(20)
    assert wanted.is_set()
    assert len(stepped) == 5
    raw.step = step
    assert engine.generate(PROMPTS["pair"], SHORT).usage.views_encoded == 0


def test_a_full_device_is_our_error_and_the_engine_goes_on(make, monkeypatch):
    engine = make()
    model = engine._backend.model
    good = engine.generate(PROMPTS["pair"], SHORT)
    for error in (
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        MemoryError("Unable to allocate 1 GiB for an array"),
        MemoryError(),
    ):

        def full(*args, error=error, **kwargs):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(model, "embed", full)
            with pytest.raises(OutOfDeviceMemory, match="memory"):
                engine.generate(PROMPTS["pair"], SHORT)
        assert engine._backend.cache.nbytes == 0, "room for the next ask"
        same(engine.generate(PROMPTS["pair"], SHORT), good, exact=True)


def test_an_answer_that_never_begins_keeps_no_row(make, monkeypatch):
    """Nobody would close it, and the rest of the room is refused to everyone after."""
    engine = make()
    raw, prompt = engine._backend, PROMPTS["pair"]
    with pytest.raises((RuntimeError, ValueError), match=r"(?i)overflow"):
        raw.prefill(prompt, replace(SHORT, seed=2**64), raw.encode(prompt.views))
    assert raw._slots.rows == []

    def full(**_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(local, "LocalState", full)
        with pytest.raises(OutOfDeviceMemory, match="memory"):
            engine.generate(prompt, SHORT)
    assert raw._slots.rows == []
    same(engine.generate(prompt, SHORT), make().generate(prompt, SHORT), exact=True)


@pytest.mark.parametrize("place", ["prefill", "open", "close", "put"])
def test_a_worker_killed_in_the_middle_leaves_nothing_half_done(make, monkeypatch, place):
    """No row that nobody knows of or that was half moved, no byte that is counted wrongly."""
    good = make().generate(PROMPTS["pair"], SHORT)
    engine = make()
    raw = engine._backend
    cache, slots = raw.cache, raw._slots
    owner, name = {
        "prefill": (raw, "prefill"),  # done, but whoever called it has not got it
        "open": (slots, "open"),
        "close": (slots, "copy"),  # before a row is ended
        "put": (cache, "_resize"),  # between keeping something and counting it
    }[place]
    call, kills = getattr(owner, name), []

    def deadly(*given, **more):
        found = None if place == "put" and not kills else call(*given, **more)
        if not kills:
            kills.append(place)
            raise SystemExit
        return found

    monkeypatch.setattr(owner, name, deadly)
    handles = [engine.submit(PROMPTS["pair"], SHORT) for _ in range(3)]
    for handle in handles:
        reply = handle.result(60)
        assert reply.token_ids == good.token_ids
        for one, other in zip(reply.objects, good.objects, strict=True):
            assert np.array_equal(one.mask_logits, other.mask_logits)
    assert kills == [place]
    assert slots.rows == []
    assert slots.nbytes == 0
    held = [kept for kept in cache.kept().values() if kept.entries]
    assert cache.nbytes == sum(nbytes for _, nbytes in cache._entries.values())
    assert cache.nbytes == sum(kept.nbytes for kept in held)
    assert len(cache) == sum(kept.entries for kept in held)


def test_text_alone_and_streaming(make):
    handle = make().submit(Prompt(text="Hello?"), SHORT)
    events = list(handle.events())
    assert isinstance(events[-1], Done)
    reply = handle.result()
    assert "".join(event.text for event in events if isinstance(event, Token)) == reply.text
    assert reply.objects == (), "no picture, no masks"
    assert "[SEG]" not in reply.text


def test_control_tokens_never_reach_the_user(make):
    warm = Options(max_new_tokens=200, temperature=5.0)
    reply = make().generate(PROMPTS["pair"], warm)
    assert not [token for token in tiny.CONTROL if token in reply.text]


def test_more_text_than_the_model_reads_is_refused(make):
    engine = make()
    with pytest.raises(PromptError, match="longer than the model reads"):
        engine.submit(Prompt(text="water " * 50_000)).result()
    assert engine.submit(Prompt(text="Is there water?"), Options(max_new_tokens=2)).result()


def test_a_chip_larger_than_one_square_is_refused(make):
    big = tiny.view("sar", side=96)
    with pytest.raises(PromptError, match=r"96 × 96 px.*64 × 64 px"):
        make().generate(Prompt(text="x", views=(big,)))
    engine = make()
    assert engine.seen_gsd(big) == pytest.approx(15.0)
    assert engine.generate(Prompt(text="x", views=(tiny.view(side=96, gsd=None),)), SHORT)


def test_a_model_that_cuts_views_into_squares(make, tmp_path):
    engine = make(tiny.save(tmp_path / "tiles", max_dynamic_patch=4))
    assert engine.capabilities.max_side_px == 128
    views = (tiny.view("optical", side=128), tiny.view("sar", seed=5, side=128))
    assert engine.seen_gsd(views[0]) == 10.0
    prompt = Prompt(text="Segment it.", views=views)
    weights = engine.generate(prompt, replace(SHORT, fusion="weighted")).sensor_weights
    assert weights.shape == (2, 4, 4), "2 × 2 squares of 2 × 2 tokens, no thumbnail"
    first = engine.generate(prompt, SHORT)
    assert first.usage.views_encoded == 0
    assert {found.mask_logits.shape for found in first.objects} == {(128, 128)}


def test_pictures_are_what_the_vision_tower_is_given(make, monkeypatch):
    """Made independent of the encoder: its input, turned back into grey values."""
    engine = make()
    given = []
    model, processor = engine._backend.model, engine._backend.processor
    encode = model.encode_views
    monkeypatch.setattr(
        model, "encode_views", lambda pixels: given.append(pixels) or encode(pixels)
    )
    engine.generate(PROMPTS["pair"], SHORT)
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1)
        for each in (processor.config.pixel_mean, processor.config.pixel_std)
    )
    for pictures, pixels in zip(engine.pictures(TRIPLE), given, strict=True):
        grey = ((pixels.float() * std + mean) * 255).round().byte().permute(0, 2, 3, 1)
        np.testing.assert_array_equal(np.stack(pictures), grey.numpy())
    frames = engine.pictures((OPTICAL, FALSE_COLOUR))
    assert [len(squares) for squares in frames] == [1, 1]


def test_two_loads_are_one_engine(tiny_folder):
    engine = load_engine(tiny_folder, device="cpu")
    assert load_engine(str(tiny_folder), device="cpu", dtype="float32") is engine
    engine.close()
