"""Messages go there and back without loss, and nothing that comes in can do harm."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from earthmind_lab import errors
from earthmind_lab.engine import wire
from earthmind_lab.engine.base import Capabilities, Kept, Stats, StopRule
from earthmind_lab.errors import EarthMindError, EngineBusy, EngineError, PromptError
from earthmind_lab.exchange import (
    Done,
    Failed,
    Found,
    Object,
    Options,
    Prompt,
    Queued,
    Region,
    Reply,
    Token,
    Turn,
    Usage,
    View,
)

TREE = [
    kind for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EarthMindError)
]  # fmt: skip
texts = st.text(max_size=20)
floats = st.floats()
sensors = st.sampled_from(["optical", "sar"])


def maybe(strategy):
    return st.none() | strategy


@st.composite
def prompts(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    views = st.builds(
        View, image=arrays(np.uint8, (*shape, 3)), name=texts, modality=sensors, time=maybe(texts),
        bands=st.tuples(texts, texts, texts) | st.just(()), gsd=maybe(floats),
        stretch=st.lists(st.tuples(floats, floats), max_size=3).map(tuple),
    )  # fmt: skip
    several = st.lists(views, max_size=2).map(tuple)
    seen = draw(st.lists(views, min_size=1, max_size=2).map(tuple) | st.just(()))
    masks = arrays(np.bool_, shape).filter(np.any)
    regions = st.lists(st.builds(Region, mask=masks, label=texts), max_size=2).map(tuple)
    turns = st.lists(st.builds(Turn, question=texts, reply=texts), max_size=2).map(tuple)
    return Prompt(
        text=draw(texts.filter(str.strip)), views=seen, history=draw(turns),
        regions=draw(regions) if seen else (), follow=draw(several) if seen else (),
    )  # fmt: skip


options = st.builds(
    Options, max_new_tokens=st.integers(), temperature=floats, seed=st.integers(),
    fusion=maybe(st.sampled_from(["concatenate", "weighted"])), mask_source=maybe(sensors),
    sensor_off=maybe(sensors), deadline=maybe(floats), priority=st.integers(), seat=texts,
)  # fmt: skip
logits = arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 4)))
found = st.builds(
    Found, label=texts, score=floats | st.floats(width=32).map(np.float32),
    mask_logits=maybe(logits),
    box=maybe(st.tuples(floats, floats, floats, floats)), view=st.integers(),
    text_span=maybe(st.tuples(st.integers(), st.integers())),
)  # fmt: skip
counts = st.integers(0)
usages = st.builds(
    Usage, views_encoded=counts, sam_encodes=counts, tokens_prefilled=counts, tokens_new=counts,
    seconds=st.dictionaries(texts, floats, max_size=3),
)  # fmt: skip
replies = st.builds(
    Reply, text=texts, raw=texts, objects=st.lists(found, max_size=2).map(tuple),
    sensor_weights=maybe(arrays(np.float32, (2, 2, 3))), usage=usages,
    token_ids=st.lists(st.integers(), max_size=4).map(tuple),
    logprobs=st.lists(floats, max_size=4).map(tuple),
    ended=st.sampled_from(["stop", "length", "repetition", "empty"]),
)  # fmt: skip
failures = st.builds(
    lambda kind, asked, found, change: kind(asked, found=found, change=change),
    st.sampled_from(TREE), texts, maybe(texts), maybe(texts),
)  # fmt: skip
some_texts = st.lists(texts, max_size=2).map(tuple)
capabilities = st.builds(
    Capabilities, name=texts, revision=texts, weight_hash=texts, licence=texts, notice=texts,
    fusion=st.sampled_from(["concatenate", "weighted"]), max_side_px=maybe(st.integers()),
    classes=some_texts, composites=some_texts, tile_px=st.integers(),
    stop=st.builds(
        StopRule, strings=some_texts, ids=st.just((1, 2)), hidden=some_texts, mark=texts
    ),
)  # fmt: skip
kept = st.builds(Kept, entries=counts, nbytes=counts, hits=counts, misses=counts)
stats = st.builds(Stats, running=counts, done=counts, kept=st.dictionaries(texts, kept, max_size=3))
messages = st.one_of(
    prompts(), options, st.builds(wire.Ask, prompt=prompts(), options=options), found, replies,
    capabilities, stats, st.builds(Queued, ask=texts, position=counts),
    st.builds(Token, ask=texts, text=texts), st.builds(Object, ask=texts, found=found),
    st.builds(Done, ask=texts, reply=replies), st.builds(Failed, ask=texts, error=failures),
)  # fmt: skip


def same(one, other) -> bool:
    """Equal in every bit; NaN equals NaN."""
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, float | np.floating):
        return one == other or (one != one and other != other)
    if isinstance(one, Exception):
        words = ("asked", "found", "change")
        return type(one) is type(other) and all(
            getattr(one, word) == getattr(other, word) for word in words
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, each.name), getattr(other, each.name))
            for each in dataclasses.fields(one)
        )
    return type(one) is type(other) and one == other


@settings(max_examples=200, deadline=None)
@given(messages)
def test_a_message_comes_back_as_it_was(message):
    assert same(message, wire.unpack(wire.pack(message), type(message)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 9))
def test_a_stream_comes_back_in_the_same_pieces(pieces, size):
    stream = b"".join(map(wire.frame, pieces))
    frames = wire.Frames()
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [piece for chunk in chunks for piece in frames.feed(chunk)] == pieces


def test_arrays_are_the_receivers_own_and_in_any_layout():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    turned = View(image=image.transpose(1, 0, 2)[::-1], name="x", modality="sar")
    prompt = wire.unpack(wire.pack(Prompt(text="q", views=(turned,))), Prompt)
    assert np.array_equal(prompt.views[0].image, turned.image)
    assert prompt.views[0].hash == turned.hash
    prompt.views[0].image[0, 0] = 1  # torch, too, wants to be able to
    assert prompt.views[0].image.base is None


def test_numpys_own_numbers_become_pythons():
    sent = Options(max_new_tokens=np.int64(5), temperature=np.float32(0.5))  # type: ignore[arg-type]
    got = wire.unpack(wire.pack(sent), Options)
    assert got == Options(max_new_tokens=5, temperature=0.5)
    assert type(got.max_new_tokens) is int and type(got.temperature) is float


def test_an_error_of_another_kind_tells_only_its_type():
    failed = Failed(ask="a", error=KeyError("/secret/path"))
    error = wire.unpack(wire.pack(failed), Failed).error
    assert type(error) is EngineError and "KeyError" in str(error) and "secret" not in str(error)


def test_an_error_below_the_tree_arrives_as_its_nearest_kind():
    class Special(EngineBusy):
        pass

    error = wire.unpack(wire.pack(Failed(ask="a", error=Special("x", found="y"))), Failed).error
    assert type(error) is EngineBusy and error.found == "y"


@pytest.mark.parametrize(
    "message",
    [
        Options(max_new_tokens=1.5),  # type: ignore[arg-type]
        Options(seat=b"x"),  # type: ignore[arg-type]
        Options(temperature=True),  # type: ignore[arg-type]
        Options(mask_source="lidar"),  # type: ignore[arg-type]
        Prompt(text="q", history=("no turn",)),  # type: ignore[arg-type]
        Prompt(text="x" * wire.MAX_TEXT),
    ],
)
def test_what_does_not_fit_is_not_sent(message):
    with pytest.raises(PromptError, match="can't be sent"):
        wire.pack(message)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_a_mask_of_another_type_is_not_sent(dtype):
    with pytest.raises(EngineError, match="float32"):
        wire.pack(Found(label="x", score=1.0, mask_logits=np.zeros((2, 2), dtype)))


def test_what_is_no_message_is_not_sent():
    with pytest.raises(EngineError, match="can't be sent"):
        wire.pack(Turn(question="a", reply="b"))
    with pytest.raises(EngineError, match="can't be sent"):
        wire.pack({"a": 1})


# --- hostile bytes -------------------------------------------------------------------------------

IMAGE = np.zeros((2, 2, 3), np.uint8)


def blob(value, kind="Prompt", version=wire.VERSION, text=None, **tensors):
    text = (
        json.dumps({"earthmind": version, "kind": kind, "value": value}) if text is None else text
    )
    data = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
    return save({"json": data, **tensors})


def asked(**view):
    whole = {"image": 0, "name": "x", "modality": "sar", **view}
    return {"text": "q", "views": [whole]}


DEEP = '{"earthmind": 1, "kind": "Prompt", "value": ' + "[" * 100_000
HOSTILE = {
    "nothing": b"",
    "a short header": b"\x01\x00",
    "a header of 2^63 bytes": b"\xff" * 7 + b"\x7f" + b"{}",
    "a header longer than the data": (10**6).to_bytes(8, "little") + b"{}",
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "no text": save({"0": IMAGE}),
    "text of another type": save({"json": np.zeros(3, np.float32)}),
    "text that is no JSON": blob(None, text="{"),
    "text that is no UTF-8": blob(None, text=b'"\xff"'),
    "JSON that is no table": blob(None, text="[]"),
    "JSON of great depth": blob(None, text=DEEP),
    "a number of many digits": blob(None, text="1" * 10_000),
    "another version": blob({"text": "q"}, version=2),
    "a version that is a list": blob({"text": "q"}, version=[1]),
    "another kind": blob({"text": "q"}, kind="Options"),
    "a kind that is a list": blob({"text": "q"}, kind=["Prompt"]),
    "a further part": blob(None, text='{"earthmind":1,"kind":"Prompt","value":{"text":"q"},"x":1}'),
    "an unknown field": blob({"text": "q", "path": "/etc/passwd"}),
    "a missing field": blob({"views": []}),
    "a text that is a number": blob({"text": 1}),
    "a tuple that is a table": blob({"text": "q", "views": {}}),
    "a tuple that is a text": blob({"text": "q", "views": "views"}),
    "a table that is a list": blob({"text": "q", "history": [["a", "b"]]}),
    "a choice that is none": blob(asked(modality="lidar"), **{"0": IMAGE}),
    "a choice that is a list": blob(asked(modality=["sar"]), **{"0": IMAGE}),
    "a picture of floats": blob(asked(), **{"0": IMAGE.astype(np.float32)}),
    "a picture that lacks": blob(asked()),
    "a picture by name": blob(asked(image="json"), **{"0": IMAGE}),
    "a picture by truth": blob(asked(image=True), **{"0": IMAGE, "True": IMAGE}),
    "a picture without pixels": blob(asked(), **{"0": IMAGE[:0]}),
    "a picture of one channel": blob(asked(), **{"0": IMAGE[:, :, :1]}),
    "one picture twice": blob(
        {"text": "q", "views": [asked()["views"][0]] * 2}, **{"0": IMAGE}
    ),
    "a picture too many": blob({"text": "q"}, **{"0": IMAGE}),
    "a number that is a text": blob(asked(gsd="10"), **{"0": IMAGE}),
    "a number that is too large": blob(asked(gsd=10**400), **{"0": IMAGE}),
    "an empty question": blob({"text": " "}),
    "a region off the grid": blob(
        {**asked(), "regions": [{"mask": 1}]}, **{"0": IMAGE, "1": np.ones((3, 3), bool)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_a_prompt_error(name):
    with pytest.raises(PromptError):
        wire.unpack(HOSTILE[name], Prompt)


def test_a_mask_of_neither_true_nor_false_is_refused():
    value = {**asked(), "regions": [{"mask": 1}]}
    data = blob(value, **{"0": IMAGE, "1": np.ones((2, 2), bool)})
    at = len(data) - 4 if data[-4:] == b"\x01" * 4 else data.index(b"\x01" * 4)
    with pytest.raises(PromptError, match="neither true nor false"):
        wire.unpack(data[:at] + b"\x02" + data[at + 1 :], Prompt)


@pytest.mark.parametrize("data", [b"", blob({}, kind="Done"), blob({"ask": "a"}, kind="Done")])
def test_a_hostile_server_is_an_engine_error(data):
    with pytest.raises(EngineError, match="same version"):
        wire.unpack(data, Done, Failed)


@pytest.mark.parametrize(
    "error", [None, [], {}, {"kind": "X"}, {"kind": 1, "asked": "a", "found": None, "change": None}]
)
def test_an_error_that_is_none_is_an_engine_error(error):
    with pytest.raises(EngineError, match="can't be read"):
        wire.unpack(blob({"ask": "a", "error": error}, kind="Failed"), Failed)


@pytest.mark.parametrize("kind", ["os", "EarthMindError2", "", "Exception"])
def test_an_error_of_unknown_kind_is_an_engine_error(kind):
    error = {"kind": kind, "asked": "a", "found": None, "change": None}
    got = wire.unpack(blob({"ask": "a", "error": error}, kind="Failed"), Failed).error
    assert type(got) is EngineError and got.asked == "a"


@settings(max_examples=300, deadline=None)
@given(messages, st.data())
def test_damaged_messages_never_crash(message, data):
    whole = bytearray(wire.pack(message))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for damaged in (bytes(whole), bytes(whole[:cut])):
        with contextlib.suppress(EarthMindError):
            wire.unpack(damaged, type(message))


def test_a_frame_that_announces_too_much_is_refused_before_it_comes():
    with pytest.raises(EngineError, match="at most 10 are taken"):
        list(wire.Frames(limit=10).feed(b"\x00\x00\x00\x0b"))


def test_a_small_message_takes_little_memory():
    nested = blob(None, text=json.dumps([[]] * 200_000))
    tracemalloc.start()
    with pytest.raises(PromptError):
        wire.unpack(nested, Prompt)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60 * len(nested)
    with pytest.raises(PromptError, match="too much of it"):
        wire.unpack(blob(None, text=b" " * (wire.MAX_TEXT + 1)), Prompt)
