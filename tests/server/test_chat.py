"""OpenAI's own client asks; what this server can't do is refused, never ignored."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import time
import zlib
from dataclasses import replace

import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from earthmind_lab.aoi import AOI
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.search import search_pairs
from earthmind_lab.engine import load_engine
from earthmind_lab.errors import EngineBusy, OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Options, Prompt, Turn, View
from earthmind_lab.render import render
from earthmind_lab.server.chat_form import UNSUPPORTED, Ask
from earthmind_lab.server.pictures import file_of, pixels_of, run_lengths, size_of
from earthmind_lab.server.serving import Limits
from tests.server.scripted import Scripted, reply_of, view
from tests.server.served import TOKEN, served


def png(pixels, kind="PNG") -> str:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(held.getvalue()).decode()}"


def part(url, **about):
    return {
        "type": "image_url",
        "image_url": {"url": url},
        **({"earthmind": about} if about else {}),
    }


def question(text, *parts):
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


def unpacked(mask) -> np.ndarray:
    """COCO's reader, written from its description."""
    counts, index, text = [], 0, mask["counts"]
    while index < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[index]) - 48
            value |= (bits & 0x1F) << shift
            more, index, shift = bool(bits & 0x20), index + 1, shift + 5
            if not more and bits & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(mask["size"][::-1]).T


@pytest.fixture(scope="module")
def engine():
    return Scripted()


@pytest.fixture(scope="module")
def server(engine):
    with served(engine, limits=Limits(alive_seconds=0.2, pictures=3, pixels=10_000)) as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


def ask(client, messages, **more):
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return client.chat.completions.create(model="scripted", messages=messages, **more)


IMAGE = view(8).image
EXPECTED = reply_of(
    Prompt(text="Where?", views=(view(8, gsd=None),)), Options(max_new_tokens=60)
)  # fmt: skip


def assert_extension(said):
    (found,) = said["objects"]
    assert np.array_equal(unpacked(found["mask"]), EXPECTED.objects[0].mask_logits > 0)
    assert found["label"] == "water" and found["box"] == [1.0, 2.0, 3.0, 4.5]
    assert (found["score"], found["view"], found["text_span"]) == (0.75, 0, [10, 15])
    assert said["notice"] == "not a model" and said["raw"] == EXPECTED.raw
    assert said["ended"] == "stop" and said["revision"] == "b" * 12


def test_a_question_with_a_picture(client, engine):
    answer = ask(client, [question("Where?", part(png(IMAGE)))], max_tokens=60)
    (choice,) = answer.choices
    assert choice.message.content == EXPECTED.text and choice.finish_reason == "stop"
    assert answer.usage.completion_tokens == len(EXPECTED.token_ids)
    assert_extension(choice.message.earthmind)
    prompt, options = engine.asked[-1]
    assert np.array_equal(prompt.views[0].image, IMAGE) and prompt.views[0].modality == "optical"
    assert options.max_new_tokens == 60 and options.temperature == 0


def test_the_same_streamed(client):
    stream = ask(
        client, [question("Where?", part(png(IMAGE)))], max_tokens=60, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert text.strip() == EXPECTED.text
    assert chunks[0].choices[0].delta.role == "assistant"
    last = chunks[-2].choices[0]
    assert last.finish_reason == "stop"
    assert_extension(last.delta.earthmind)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 52
    assert len({each.id for each in chunks}) == 1


def test_the_stream_as_it_is_on_the_wire(server):
    slow = Scripted(pause=0.3)
    with served(slow, limits=Limits(alive_seconds=0.1)) as other, other.client() as client:
        body = {
            "model": "scripted",
            "messages": [{"role": "user", "content": "Hm?"}],
            "stream": True,
        }
        text = client.post("/v1/chat/completions", json=body).text
    events = text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert ": waiting" in events and ": 0 before" in events
    said = [json.loads(each[6:]) for each in events[:-1] if each.startswith("data: ")]
    assert all(each["object"] == "chat.completion.chunk" and "usage" not in each for each in said)


def test_what_a_picture_is_can_be_said(client, engine):
    sar = part(png(IMAGE, "PNG"), modality="sar", name="vv_vh_ratio", gsd=10.0, time="2020-01-01")
    ask(client, [question("Where?", part(png(IMAGE, "JPEG")), sar)])
    optical, radar = engine.asked[-1][0].views
    assert optical.image.shape == (8, 8, 3)
    assert (radar.modality, radar.name, radar.gsd, radar.time) == (
        "sar", "vv_vh_ratio", 10.0, "2020-01-01",
    )  # fmt: skip


def test_earlier_turns_are_history_and_instructions_stand_before_the_first(client, engine):
    first = ask(client, [question("First?", part(png(IMAGE)))])
    given_back = first.choices[0].message.model_dump()
    ask(client, [
        {"role": "system", "content": "Be short."}, question("First?", part(png(IMAGE))),
        given_back, {"role": "user", "content": "Second?"},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        question("Third?"),
    ])  # fmt: skip
    prompt = engine.asked[-1][0]
    raw = first.choices[0].message.earthmind["raw"]
    assert prompt.text == "Third?" and len(prompt.views) == 1 and raw.endswith("[SEG]")
    assert prompt.history == (
        Turn(question="Be short.\n\nFirst?", reply=raw), Turn(question="Second?", reply="Yes."),
    )  # fmt: skip


def test_parameters_that_count(client, engine):
    ask(client, "x", temperature=0.5, seed=11, max_completion_tokens=9, user="ann", n=1, top_p=1,
        tools=[], response_format={"type": "text"}, metadata={"a": "b"})  # fmt: skip
    options = engine.asked[-1][1]
    assert (options.temperature, options.seed, options.max_new_tokens) == (0.5, 11, 9)
    assert options.seat.endswith("/ann")
    ask(client, "x", extra_headers={"earthmind-seat": "bob"})
    assert engine.asked[-1][1].seat.endswith("/bob")
    ask(client, "x")
    assert engine.asked[-1][1].seat.endswith("/127.0.0.1")


def test_what_is_not_set_may_be_written_out(client, engine):
    """As clients of some languages do; also the values that OpenAI's API takes for not set."""
    unset = dict.fromkeys(UNSUPPORTED | (set(Ask.model_fields) - {"model", "messages"}))
    messages = [{"role": role, "content": "x", "name": None}
                for role in ("system", "user", "assistant", "user")]  # fmt: skip
    assert ask(client, messages, extra_body=unset).choices[0].message.content
    assert engine.asked[-1][1] == replace(Options(), seat=engine.asked[-1][1].seat,
                                          deadline=engine.asked[-1][1].deadline)  # fmt: skip
    assert ask(client, "x", extra_body={"service_tier": "auto", "modalities": ["text"]})


def test_an_answer_that_was_cut_off(client):
    answer = ask(client, "What is it?", max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.earthmind["ended"] == "length"


@pytest.mark.parametrize(
    ("ended", "finish"), [("repetition", "length"), ("empty", "stop"), ("stop", "stop")]
)
def test_why_it_ended(ended, finish):
    engine = Scripted(lambda prompt, options: replace(reply_of(prompt, options), ended=ended))
    with served(engine) as server, openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0
    ) as client:  # fmt: skip
        choice = ask(client, "x").choices[0]
    assert choice.finish_reason == finish and choice.message.earthmind["ended"] == ended


def test_numbers_that_json_lacks():
    def odd(prompt, options):
        reply = reply_of(prompt, options)
        found = replace(reply.objects[0], score=float("nan"), box=(0.0, 0.0, float("inf"), 1.0))
        return replace(reply, objects=(found,))

    with served(Scripted(odd)) as server, server.client() as client:
        body = {"model": "scripted", "messages": [question("x", part(png(IMAGE)))]}
        found = client.post("/v1/chat/completions", json=body).json()
    (marked,) = found["choices"][0]["message"]["earthmind"]["objects"]
    assert marked["score"] is None and marked["box"] is None


def test_models(client):
    (found,) = client.models.list().data
    assert found.id == "scripted" and found.earthmind["notice"] == "not a model"
    assert client.models.retrieve("scripted").id == "scripted"
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt'"):
        client.models.retrieve("gpt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2), ("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ("tool_choice", "auto"), ("response_format", {"type": "json_object"}), ("logprobs", True),
        ("top_logprobs", 3), ("stop", "x"), ("stop", ["x"]), ("frequency_penalty", 0.5),
        ("presence_penalty", -1), ("top_p", 0.5), ("logit_bias", {"1": 2}),
        ("modalities", ["audio"]),
        ("reasoning_effort", "high"), ("functions", []), ("parallel_tool_calls", True),
    ],
)  # fmt: skip
def test_a_parameter_that_would_change_the_answer_is_refused(client, name, value):
    with pytest.raises(
        openai.BadRequestError, match=f"does not support the parameter '{name}'"
    ) as no:
        ask(client, "x", extra_body={name: value})
    assert no.value.code == "unsupported_parameter" and no.value.param.startswith(name)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []}, {"messages": "x"}, {"temperature": 3}, {"temperature": "warm"},
        {"max_tokens": 0}, {"seed": 2**64}, {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]}, {"frobnicate": 1}, {"stream": "perhaps"},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        {"messages": [question("x", {"type": "input_audio", "input_audio": {}})]},
        {"messages": [question("x", part("data:", modality="lidar"))]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
    ],
)  # fmt: skip
def test_what_has_not_the_form_is_422_and_says_where(server, body):
    whole = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], **body}
    data = json.dumps(whole)
    with server.client(headers={"content-type": "application/json"}) as client:
        response = client.post("/v1/chat/completions", content=data)
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert error["param"].startswith(next(iter(body))) and error["code"] == "malformed"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a":' * 5000, b"1e999"]
)
def test_what_is_no_json_is_refused(server, data):
    with server.client(headers={"content-type": "application/json"}) as client:
        response = client.post("/v1/chat/completions", content=data)
    assert response.status_code in (400, 422) and response.json()["error"]["message"]


USER, ASSISTANT, SYSTEM = ({"role": role, "content": "x"} for role in
                           ("user", "assistant", "system"))  # fmt: skip


@pytest.mark.parametrize(
    "messages",
    [[ASSISTANT], [SYSTEM], [USER, USER], [USER, ASSISTANT], [USER, SYSTEM], [ASSISTANT, USER],
     [USER, SYSTEM, ASSISTANT, USER], [{"role": "user", "content": ""}],
     [USER, ASSISTANT, question("x", part(png(IMAGE)))],
     [question("x", *[part(png(IMAGE))] * 4)], [question("x", part(png(view(101).image)))],
     [question("x", part(png(view(65).image), gsd=10.0))]],
)  # fmt: skip
def test_what_can_not_be_asked_is_400(client, messages):
    with pytest.raises(openai.BadRequestError, match=r"Try|limit|large"):
        ask(client, messages)


def test_too_long_an_answer_is_not_promised(client):
    with pytest.raises(openai.BadRequestError, match="max_new_tokens outside of 1 to 4096"):
        ask(client, "x", max_tokens=5000)


def bomb(side):
    """A PNG of some bytes that says to have side x side pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def data_url(data, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


WHOLE = base64.b64decode(png(view(60).image).partition(",")[2])
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
HOSTILE = {
    "an address": "https://example.org/x.png",
    "a file": "file:///etc/passwd",
    "a path": "/etc/passwd",
    "nothing": "",
    "a picture of another kind": data_url(b"GIF89a", "gif"),
    "an SVG": data_url(SVG, "svg+xml"),
    "an SVG under another name": data_url(SVG),
    "a TIFF under another name": data_url(b"II*\x00" + b"\0" * 100),
    "no picture": data_url(b"hello"),
    "no bytes": "data:image/png;base64,",
    "no base64": "data:image/png;base64,%%%",
    "half characters": "data:image/png;base64,ü",
    "parameters": "data:image/png;charset=utf-8;base64," + base64.b64encode(WHOLE).decode(),
    "a cut off picture": data_url(WHOLE[: len(WHOLE) // 2]),
    "a cut off head": data_url(WHOLE[:20]),
    "a large picture": data_url(bomb(12_000)),
    "a huge picture": data_url(bomb(60_000)),
    "a picture beyond all": data_url(bomb(2**31 - 1)),
    "a picture of no pixels": data_url(bomb(0)),
}


@pytest.mark.parametrize("kind", ["jpeg", "jpg", "JPG"])
def test_a_jpeg_by_either_name(client, engine, kind):
    ask(client, [question("x", part(png(IMAGE, "JPEG").replace("image/jpeg", f"image/{kind}")))])
    assert engine.asked[-1][0].views[0].image.shape == IMAGE.shape


@pytest.mark.parametrize(
    ("name", "said"),
    [("an address", "inside the request"), ("a picture of another kind", "PNG and JPEG")],
)
def test_what_is_wrong_with_a_picture_is_said(client, name, said):
    with pytest.raises(openai.BadRequestError, match=f"Only [^.]*{said}"):
        ask(client, [question("x", part(HOSTILE[name]))])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_picture_is_refused(client, name, monkeypatch):
    def never(*_, **__):
        raise AssertionError("something was opened")

    monkeypatch.setattr("urllib.request.urlopen", never)
    started = time.monotonic()
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, [question("x", part(HOSTILE[name]))])
    assert time.monotonic() - started < 2
    assert "root:" not in str(refused.value)


def test_sixteen_bits_need_a_meaning(client):
    deep = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(deep, "PNG")
    with pytest.raises(openai.BadRequestError, match="declared meaning"):
        ask(client, [question("x", part(data_url(deep.getvalue())))])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pictures_never_crash(data):
    whole = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        file = file_of(data_url(bytes(whole)))
        width, height = size_of(file)
        if width * height <= 10_000:
            assert sorted(pixels_of(file).shape[:2]) == sorted((height, width))
    except PromptError:
        pass


@settings(max_examples=150, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_come_back(mask):
    assert np.array_equal(unpacked({"size": mask.shape, "counts": run_lengths(mask)}), mask)


COCO_DISC = "Rg05P16K4M2N2N2O0O2O000O2O00000001N10001N101N2N2N3L5Jid0"
COCO_FULL = "0hm2"


def test_run_lengths_are_cocos():
    """Written by pycocotools 2.0.11 from the same masks."""
    rows, columns = np.mgrid[:40, :60]
    disc = (rows - 20) ** 2 + (columns - 30) ** 2 < 150
    assert run_lengths(disc) == COCO_DISC
    assert run_lengths(np.ones((3, 1000), bool)) == COCO_FULL


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (PromptError("no"), openai.BadRequestError, 400),
        (EngineBusy("full"), openai.RateLimitError, 429),
        (OutOfDeviceMemory("big"), openai.InternalServerError, 507),
        (RuntimeError("secret /path"), openai.InternalServerError, 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_the_engine(error, kind, status, stream):
    def fail(*_):
        raise error

    with served(Scripted(fail)) as server, openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0
    ) as client:  # fmt: skip
        if stream:  # the reply has begun: the error is in the stream
            with pytest.raises(openai.APIError) as caught:
                list(ask(client, "x", stream=True))
        else:
            with pytest.raises(kind) as caught:
                ask(client, "x")
            assert caught.value.status_code == status
            assert ("retry-after" in caught.value.response.headers) == (status == 429)
    assert "secret" not in str(caught.value) and "Traceback" not in str(caught.value)


def test_a_client_that_hangs_up_cancels_its_ask():
    engine = Scripted(pause=0.05)
    with served(engine) as server, openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0
    ) as client:  # fmt: skip
        long = "word " * 500
        with ask(client, long, stream=True) as stream:
            next(iter(stream))
        until = time.monotonic() + 5
        while engine.ended != ["Cancelled"]:
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(openai.APITimeoutError):
            ask(client, long, timeout=0.3)
        while engine.ended != ["Cancelled"] * 2:
            assert time.monotonic() < until + 5
            time.sleep(0.02)
        assert not server.serving.busy


def test_an_answer_that_takes_too_long_is_ended():
    engine = Scripted(pause=0.1)
    with served(engine, limits=Limits(ask_seconds=0.4)) as server, openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0
    ) as client:  # fmt: skip
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, "word " * 100)
        assert caught.value.status_code == 504 and caught.value.code == "late"


def test_twenty_at_once(client):
    answers: dict[int, str] = {}

    def work(i):
        answers[i] = ask(client, f"Question {i}", user=f"seat {i}").choices[0].message.content

    threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {i: text.endswith(f"Question {i}") for i, text in answers.items()} == dict.fromkeys(
        range(20), True
    )


def test_nano_speaks_openais_protocol():
    local = load_engine("nano")
    aoi = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
    chip = load_chip(search_pairs(aoi, "2019-09-15/2019-09-20", catalog="sample")[0], aoi)
    views: tuple[View, ...] = render(chip, preferred=local.capabilities.composites)
    parts = [part(png(each.image), modality=each.modality, gsd=each.gsd) for each in views]
    with served(local) as server, openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0
    ) as client:  # fmt: skip
        messages = [question("Segment the water.", *parts)]
        answer = client.chat.completions.create(model=local.name, messages=messages)
        streamed = client.chat.completions.create(model=local.name, messages=messages, stream=True)
        text = "".join(each.choices[0].delta.content or "" for each in streamed)
    reply = local.generate(Prompt(text="Segment the water.", views=views))
    message = answer.choices[0].message
    assert message.content == text == reply.text
    assert message.earthmind["notice"].startswith("earthmind-nano: a small demonstration model")
    assert len(reply.objects) == len(message.earthmind["objects"]) > 0
    for found, told in zip(reply.objects, message.earthmind["objects"], strict=True):
        assert np.array_equal(unpacked(told["mask"]), found.mask_logits > 0)
