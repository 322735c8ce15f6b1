"""Other people's training data: every form comes out as examples, or says what is wrong."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import warnings
from zlib import crc32

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from earthmind_lab.errors import EarthMindError, LoadError
from earthmind_lab.finetune import videos
from earthmind_lab.finetune.examples import Examples
from earthmind_lab.finetune.opening import open_examples
from earthmind_lab.finetune.questions import SEGMENTED
from earthmind_lab.finetune.reading import read_data
from earthmind_lab.finetune.source import Recent
from tests.finetune.sets import REFS, picture, refer, runs, square, talk, write


def _bomb():
    """A PNG whose header promises 400 million pixels."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BOMB = _bomb()
LAKE = ("<image>\nIs there water?", "Yes.")


def one(tmp_path, *entries, name="data.json", **options):
    return open_examples(write(tmp_path / name, list(entries)), **options)


# --- conversations ---------------------------------------------------------------------------


def test_llava(tmp_path):
    picture(tmp_path / "a.png")
    found = one(tmp_path, talk(*LAKE, id="x", image="a.png", license="MIT"), licence="other")
    assert isinstance(found, Examples)
    assert found.form == "llava" and "1 entries, 1 examples" in found.said
    info, example = found.info(0), found[0]
    assert (info.id, info.task, info.licence) == ("x", "question", "MIT")
    assert info.pictures == (str(tmp_path / "a.png"),)
    assert (example.prompt.text, example.reply, example.masks) == ("Is there water?", "Yes.", None)
    assert [view.shape for view in example.prompt.views] == [(20, 30)]


def test_each_turn_is_an_example_with_the_earlier_ones_as_history(tmp_path):
    picture(tmp_path / "images" / "a.png")
    found = one(tmp_path, talk(*LAKE, "How much?", "Half.", "Sure?", "Yes!", image="a.png"))
    assert [found.info(i).id for i in range(3)] == ["data-1#1", "data-1#2", "data-1#3"]
    last = found[2].prompt
    assert [(turn.question, turn.reply) for turn in last.history] == [
        ("Is there water?", "Yes."), ("How much?", "Half.")
    ]  # fmt: skip
    assert last.text == "Sure?" and found[2].reply == "Yes!"
    assert found[0].prompt.history == ()


def test_sharegpt_and_messages(tmp_path):
    picture(tmp_path / "a.png")
    plain = {
        "messages": [
            {"role": "user", "content": "<image>What?"},
            {"role": "assistant", "content": "A lake."},
        ],
        "images": ["a.png"],
    }
    parts = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "A lake."}]},
        ]
    }  # fmt: skip
    found = one(tmp_path, plain, parts, name="data.jsonl")
    assert found.form == "messages"
    for example in (found[0], found[1]):
        assert example.prompt.text == "What?" and example.reply == "A lake."
        assert len(example.prompt.views) == 1


def test_text_without_a_picture(tmp_path):
    assert one(tmp_path, talk("What is SAR?", "Radar."))[0].prompt.views == ()


def test_ids_are_unique_and_stay(tmp_path):
    entries = [talk("a?", "b", id="x"), talk("c?", "d", id="x"), talk("e?", "f", id="x@2")]
    names = [one(tmp_path, *entries).info(i).id for i in range(3)]
    assert names == ["x", "x@3", "x@2"]


def test_pairs_by_one_name(tmp_path):
    picture(tmp_path / "rgb" / "img" / "a.png", seed=1)
    picture(tmp_path / "sar" / "img" / "a.png", seed=2)
    picture(tmp_path / "rgb" / "img" / "b.jpg", seed=1)
    picture(tmp_path / "sar" / "img" / "b.png", seed=2)
    found = one(tmp_path, talk(*LAKE, image="a.png"), talk(*LAKE, image="b.jpg"))
    assert "pairs" in found.said
    for index in range(2):
        views = found[index].prompt.views
        assert [view.modality for view in views] == ["optical", "sar"]
        assert not np.array_equal(views[0].image, views[1].image)
    assert found.info(0).pictures == (
        str(tmp_path / "rgb/img/a.png"), str(tmp_path / "sar/img/a.png")
    )  # fmt: skip


def test_a_pair_of_two_sizes_is_refused(tmp_path):
    picture(tmp_path / "rgb" / "img" / "a.png", (20, 30))
    picture(tmp_path / "sar" / "img" / "a.png", (20, 31))
    with pytest.raises(LoadError, match=r"entry 1 of 1: .*one grid.*\(20, 30\).*\(20, 31\)"):
        _ = one(tmp_path, talk(*LAKE, image="a.png"))[0]


def test_band_groups_in_the_order_people_count(tmp_path):
    for number in (10, 2, 1):
        picture(tmp_path / "s2" / f"rgb_{number}.png", seed=number)
    views = one(tmp_path, talk(*LAKE, image="s2.png"))[0].prompt.views
    assert [view.name for view in views] == ["rgb_1", "rgb_2", "rgb_10"]


def test_masks_and_regions_of_our_own(tmp_path):
    picture(tmp_path / "a.png")
    lake = np.zeros((20, 30), bool)
    lake[3:9, 4:20] = True
    Image.fromarray(lake).save(tmp_path / "lake.png")
    entry = talk(
        "Is <region> wet?", "Yes.", "Segment it and the rest.", "[SEG] and [SEG].", "More?",
        "[SEG]", image="a.png", regions=[square(2, 2, 9, 9)],
        masks=["lake.png", runs(lake), square(0, 0, 3, 4)],
    )  # fmt: skip
    found = one(tmp_path, entry)
    assert [found.info(i).task for i in range(3)] == ["region", "segment", "segment"]
    assert found[0].prompt.text == "Is region1 wet?" and found[0].masks is None
    assert found[0].prompt.regions[0].mask.sum() == 49
    assert np.array_equal(found[1].masks, np.stack([lake, lake]))
    assert found[2].masks.shape == (1, 20, 30) and found[2].masks.sum() == 12


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (talk("a?", "b", image="gone.png"), "no picture 'gone.png'"),
        (talk("a?", "b", image="../out.png"), "outside the folder"),
        (talk("a?", "b", image="/etc/passwd"), "outside the folder"),
        (talk("a?", "b", image="link.png"), "outside the folder"),
        (talk("a?", "b", image="x\0.png"), "has no name"),
        (talk("a?", "b", image="n" * 5000), "name too long"),
        (talk("a?", "b", image=7), "must name files"),
        (talk("a?", image="a.png"), "no answer"),
        (talk("a?", "b", "c?"), "no answer"),
        (talk("<image>a?", "b"), "differ in number"),
        (talk("a?", "b", "<image>c?", "d", image="a.png"), "after the first question"),
        (talk(), "no answer"),
        ({"conversations": "no"}, "must be a list"),
        ({"conversations": [{"from": "system", "value": "x"}]}, "nobody is called 'system'"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "don't alternate"),
        ({"conversations": [{"from": "human"}]}, "'value' must be"),
        ({"conversations": [3]}, "no object"),
        (talk("a?", "[SEG]", image="a.png", masks=[]), "needs one mask"),
        (talk("a?", "[SEG]", image="a.png", masks=[[[1, 2, 3]]]), "three points"),
        (talk("a?", "[SEG]", image="a.png", masks=[[[0, 0, 9, 0, 1e99, 9]]]), "numbers in pixels"),
        (talk("a?", "[SEG]", image="a.png", masks=[{"size": [9, 9], "counts": [81]}]), "size of"),
        (talk("a?", "[SEG]", image="a.png", masks=[{"size": [20, 30], "counts": [1]}]), "fill"),
        (talk("a?", "[SEG]", image="a.png", masks=[{"size": [20, 30], "counts": "~"}]), "damaged"),
        (talk("a <region4>?", "b", image="a.png", regions=[square(0, 0, 5, 5)]), "marks region 4"),
        (talk("a?", "b", image="a.png", regions=[square(90, 90, 95, 95)]), "marks no pixel"),
        (talk("a?", "b", footprint=[1, 2, 3]), "no area"),
        (talk("a?", "b", footprint=[500, 2, 600, 3]), "nowhere on the Earth"),
        (talk("", "b"), "question is empty"),
        (talk("a?", "b", image="text.png"), "no picture that can be read"),
        (talk("a?", "b", image="bomb.png"), "too large"),
        (talk("a?", "b", image="pipe.png"), "no picture"),
        (17, "no object"),
    ],
)
def test_a_broken_entry_says_where_and_the_others_go_on(tmp_path, entry, message):
    data = tmp_path / "data"
    picture(data / "a.png")
    picture(tmp_path / "out.png")
    (data / "link.png").symlink_to(tmp_path / "out.png")
    (data / "text.png").write_text("no picture")
    os.mkfifo(data / "pipe.png")
    (data / "bomb.png").write_bytes(BOMB)
    found = one(data, talk(*LAKE, image="a.png"), entry)
    assert found[0].reply == "Yes."
    with pytest.raises(LoadError, match=message) as caught:
        _ = found[1]
    assert str(caught.value).startswith("data.json, entry 2 of 2")


def test_a_link_that_stays_inside_is_a_name_like_any_other(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert one(tmp_path, talk(*LAKE, image="b.png"))[0].prompt.views[0].shape == (20, 30)


def test_a_picture_that_many_questions_share_is_decoded_once(tmp_path, monkeypatch):
    from earthmind_lab.finetune import folders

    picture(tmp_path / "a.png")
    calls = []
    real = folders.picture_view
    monkeypatch.setattr(folders, "picture_view", lambda path: calls.append(path) or real(path))
    found = one(tmp_path, *(talk(*LAKE, image="a.png") for _ in range(5)))
    assert len([found[i] for i in range(5)]) == 5
    assert len(calls) == 1


def test_what_is_held_stays_under_its_limit():
    held, made = Recent(limit=10), []

    def make(key):
        return lambda: (made.append(key) or key, 4)

    for key in (1, 2, 1, 3, 1, 2):
        held.get(key, make(key))
    assert made == [1, 2, 3, 2]
    assert held.get("big", lambda: ("big", 11)) == "big"
    held.get(2, make(2))
    assert made == [1, 2, 3, 2]  # what is too big drives nothing out


# --- files of other shapes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: this is no JSON"),
        ("[\n1,\n]", "line 3: this is no JSON"),
        ("[]", "empty list"),
        ("3", "no list of entries"),
        ('{"a": 1}', "no list of entries.*'a'"),
        ('[{"a": 1}]', "none of the forms.*entries with a"),
        ("[[[[]]]]", "none of the forms"),
        ("[" * 100_000, "can't be read|no JSON"),
        ('{"type": "FeatureCollection", "features": []}', "labelled_areas"),
    ],
)
def test_json_of_another_shape(tmp_path, text, message):
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(LoadError, match=message):
        open_examples(path)


def test_a_line_that_is_no_json_says_which(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": 1}\n\n{"a"\n')
    with pytest.raises(LoadError, match=r"data.jsonl, line 3"):
        read_data(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(LoadError, match="no training data"):
        open_examples(tmp_path / "gone.json")
    with pytest.raises(LoadError, match="no single file"):
        open_examples(tmp_path)
    write(tmp_path / "data.json", [talk("a?", "b")])
    assert len(open_examples(tmp_path)) == 1
    with pytest.raises(LoadError, match="no folder of pictures"):
        open_examples(tmp_path, images=tmp_path / "gone")
    with pytest.raises(LoadError, match="no form 'coco'"):
        open_examples(tmp_path, form="coco")
    (tmp_path / "data.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LoadError, match="no text"):
        open_examples(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from("conversations messages from value role content image images masks regions "
                        "file_name description annotation segmentation height width footprint id "
                        "annotations type text size counts".split()),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.lists(JSON, max_size=4), st.sampled_from([None, "llava", "messages", "regions", "refer"]))
def test_no_json_gets_past_our_errors(tmp_path_factory, data, form):
    folder = tmp_path_factory.mktemp("set")
    write(folder / "refs.json", data)
    path = write(
        folder / "data.json", {"images": data, "annotations": data} if form == "refer" else data
    )
    try:
        found = open_examples(path, form=form)
    except EarthMindError:
        return
    assert len({found.info(i).id for i in range(len(found))}) == len(found)
    for index in range(len(found)):
        try:
            example = found[index]
        except LoadError:
            continue
        assert example.info == found.info(index)


# --- masks by name, regions ------------------------------------------------------------------


def test_refer(tmp_path):
    found = open_examples(refer(tmp_path))
    assert found.form == "refer" and "refs.json with instances.json" in found.said
    assert [found.info(i).id for i in range(3)] == ["ref-7", "ref-8", "ref-9"]
    assert {found.info(i).licence for i in range(3)} == {"CC-BY-4.0"}
    assert found[0].masks.shape == (1, 20, 30)
    assert [int(found[i].masks.sum()) for i in range(3)] == [80, 80 + 48, 25]
    assert found[0].reply in SEGMENTED
    texts = {open_examples(tmp_path, seed=seed)[0].prompt.text for seed in range(30)}
    assert len(texts) > 5
    assert {"a ship" in text for text in texts} == {True, False}
    assert found[0].prompt.text == open_examples(tmp_path)[0].prompt.text


def test_a_split_of_the_index(tmp_path):
    refer(tmp_path)
    assert len(open_examples(tmp_path, split="train")) == 2
    with pytest.raises(LoadError, match=r"no reference of the split 'test'.*train, val"):
        open_examples(tmp_path, split="test")


def test_an_index_of_another_data_set(tmp_path):
    refer(tmp_path)
    write(tmp_path / "refs.json", [*REFS, {**REFS[0], "ann_id": 99}, {**REFS[0], "sentences": []}])
    found = open_examples(tmp_path)
    for index, message in ((3, "no annotation 99"), (4, "no sentence")):
        with pytest.raises(LoadError, match=message) as caught:
            _ = found[index]
        assert str(caught.value).startswith(f"refs.json, entry {index + 1} of 5")
    (tmp_path / "refs.json").unlink()
    with pytest.raises(LoadError, match="no single index"):
        open_examples(tmp_path)


def test_a_referring_pair_is_drawn_on_sar(tmp_path):
    refer(tmp_path)
    for number in (1, 2):
        picture(tmp_path / "pairs" / "rgb" / "img" / f"{number}.jpg")
        picture(tmp_path / "pairs" / "sar" / "img" / f"{number}.png")
    example = open_examples(tmp_path, images=tmp_path / "pairs")[0]
    assert [view.modality for view in example.prompt.views] == ["optical", "sar"]


def test_region_descriptions(tmp_path):
    picture(tmp_path / "a.png")
    lake = np.zeros((20, 30), bool)
    lake[5:9, 6:12] = True
    entry = {
        "file_name": "a.png", "height": 20, "width": 30,
        "description": ["<region1>: A field.", "A lake."],
        "annotation": [{"segmentation": square(1, 1, 4, 4)}, {"segmentation": runs(lake)}],
    }  # fmt: skip
    found = one(tmp_path, entry, {**entry, "description": ["A lake."]}, {**entry, "height": 21})
    assert found.form == "regions"
    assert [found[i].reply for i in range(2)] == ["A field.", "A lake."]
    assert all("region1" in found[i].prompt.text for i in range(2))
    assert np.array_equal(found[1].prompt.regions[0].mask, lake)
    with pytest.raises(LoadError, match="entry 2 of 3: each description needs one region"):
        _ = found[2]
    with pytest.raises(LoadError, match="does not lie on the grid"):
        _ = found[3]


# --- frames ----------------------------------------------------------------------------------


def test_frames_of_a_folder_and_of_animated_pictures(tmp_path):
    for number in range(1, 12):
        picture(tmp_path / "day" / f"{number}.png", seed=number)
    shots = [Image.open(tmp_path / "day" / f"{n}.png") for n in range(1, 12)]
    for suffix, options in (("gif", {}), ("png", {}), ("webp", {"lossless": True}), ("tif", {})):
        shots[0].save(tmp_path / f"day.{suffix}", save_all=True, append_images=shots[1:], **options)
    entries = [talk("Has it changed?", "Yes.", video=name)
               for name in ("day", "day.gif", "day.png", "day.webp", "day.tif")]  # fmt: skip
    entries.append(talk("Has it changed?", "No.", video=["day/1.png", "day/2.png"]))
    found = one(tmp_path, *entries, frames=3)
    wanted = [np.asarray(shots[n]) for n in (0, 5, 10)]
    for index in (0, 2, 3, 4):
        frames = found[index].prompt.views
        assert len({view.name for view in frames}) == 1  # a series, drawn on each
        assert all(np.array_equal(view.image, shot)
                   for view, shot in zip(frames, wanted, strict=True))  # fmt: skip
    assert len(found[1].prompt.views) == 3  # GIF has few colours
    assert len(found[5].prompt.views) == 2
    assert found.info(0).task == "frames"


def test_masks_of_frames(tmp_path):
    for number in (1, 2):
        picture(tmp_path / "day" / f"{number}.png")
    ship = talk("Follow the ship.", "[SEG]", video="day", masks=[[square(0, 0, 4, 4), None]])
    found = one(tmp_path, ship, {**ship, "masks": [square(0, 0, 4, 4)]})
    assert found[0].masks.shape == (1, 2, 20, 30)
    assert found[0].masks.sum(axis=(0, 2, 3)).tolist() == [16, 0]
    with pytest.raises(LoadError, match="one outline per frame"):
        _ = found[1]


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_damaged_pictures_and_frames_are_reported(tmp_path, suffix):
    """Pillow raises all kinds of errors for these; ours is the one that comes out."""
    shots = [Image.new("RGB", (30, 20), (n, 2 * n, 9)) for n in range(3)]
    shots[0].save(tmp_path / f"good.{suffix}", save_all=True, append_images=shots[1:])
    good, rng = (tmp_path / f"good.{suffix}").read_bytes(), np.random.default_rng(0)
    found = one(tmp_path, talk("a?", "b", image=f"x.{suffix}"))
    frames = one(tmp_path, talk("a?", "b", video=f"x.{suffix}"), name="frames.json")
    refused = 0
    for _ in range(150):
        data = np.frombuffer(good, np.uint8).copy()
        data[rng.integers(0, min(len(data), 150), 4)] = rng.integers(0, 256, 4)
        (tmp_path / f"x.{suffix}").write_bytes(data[: rng.integers(9, len(data) + 1)].tobytes())
        for source in (found, frames):
            source.rows[0].open.args[-1].folder._recent = Recent()  # the file is another each time
            try:
                with warnings.catch_warnings(action="ignore"):
                    assert source[0].prompt.views
            except LoadError:
                refused += 1
    assert refused > 20


def test_frames_of_two_sizes(tmp_path):
    picture(tmp_path / "day" / "1.png", (20, 30))
    picture(tmp_path / "day" / "2.png", (20, 31))
    with pytest.raises(LoadError, match="frames differ in size"):
        _ = one(tmp_path, talk("a?", "b", video="day"))[0]


def test_a_video_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "day.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(LoadError, match=r"entry 1 of 1: .*pip install .*\[video\]"):
        _ = one(tmp_path, talk("a?", "b", video="day.mp4"))[0]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Nine frames of 48 by 64 px, each as light as its number says, darker at the left."""
    path = tmp_path_factory.mktemp("video") / "day.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=5, options={"crf": "10", "bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(9):
            shot = np.full((48, 64, 3), 25 * number + 20, np.uint8)
            shot[:, :32] -= 20
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shot, format="rgb24")))
        out.mux(stream.encode())
    return path.read_bytes()


def turned(video, *matrix):
    """The same, to be shown turned: four numbers of its track's 3 x 3 matrix."""
    place = video.index(b"tkhd") + 44
    a, b, c, d = (each << 16 for each in matrix)
    return video[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + video[place + 36 :]


def test_frames_of_a_video(tmp_path, video):
    (tmp_path / "day.mp4").write_bytes(video)
    views = one(tmp_path, talk("a?", "b", video="day.mp4"), frames=3)[0].prompt.views
    assert [view.shape for view in views] == [(48, 64)] * 3
    light = [[view.image[:, 8:24].mean(), view.image[:, 40:56].mean()] for view in views]
    np.testing.assert_allclose(light, [[0, 20], [100, 120], [200, 220]], atol=4)


def test_a_video_is_upright(tmp_path, video):
    """A camera that was held upright writes lying frames, and how they are to be turned."""
    (tmp_path / "day.mp4").write_bytes(turned(video, 0, 1, -1, 0))  # clockwise
    view = one(tmp_path, talk("a?", "b", video="day.mp4"), frames=3)[0].prompt.views[1]
    assert view.shape == (64, 48)
    assert abs(view.image[8:24].mean() - 100) < 4 and abs(view.image[40:56].mean() - 120) < 4


def test_what_is_no_video_or_too_much_of_one_is_refused(tmp_path, video, monkeypatch):
    (tmp_path / "day.mp4").write_bytes(video)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile day.mp4\n")  # leads elsewhere
    (tmp_path / "cut.mp4").write_bytes(video[: len(video) // 2])
    with av.open(str(tmp_path / "heard.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 8000
        out.mux([*stream.encode(sound), *stream.encode()])
    entries = [talk("a?", "b", video=f"{name}.mp4") for name in ("list", "cut", "heard", "day")]
    found = one(tmp_path, *entries)
    for index, said in enumerate(["can't be read", "can't be read", "no video. Found: audio"]):
        with pytest.raises(LoadError, match=f"entry {index + 1} of 4: .*{said}"):
            _ = found[index]
    monkeypatch.setattr(videos, "MOST_READ_PX", 8 * 48 * 64)
    with pytest.raises(LoadError, match="more than 8 frames"):
        _ = found[3]
    monkeypatch.setattr(videos, "MAX_PICTURE_PX", 64 * 48 - 1)
    with pytest.raises(LoadError, match="64 x 48 px"):
        _ = found[3]


def test_halves_of_characters_are_no_text(tmp_path):
    """JSON can spell them; no tokenizer, file name or page takes them."""
    half = r"\ud800 \udc80 \ud83d\ude00"
    entry = talk("a HALF?", "b HALF", id="x HALF", image="HALF.png")
    (tmp_path / "d.json").write_text(json.dumps([entry]).replace("HALF", half))
    picture(tmp_path / "? ? \U0001f600.png")
    found = open_examples(tmp_path / "d.json")
    assert found[0].prompt.text == "a ? ? \U0001f600?" and found[0].reply == "b ? ? \U0001f600"
    json.dumps(found.info(0).id, ensure_ascii=False).encode("utf-8")


def test_sources_travel_to_other_processes(tmp_path):
    picture(tmp_path / "a.png")
    found = pickle.loads(pickle.dumps(one(tmp_path, talk(*LAKE, image="a.png"), 17)))
    assert found[0].reply == "Yes." and found[0].prompt.views
    with pytest.raises(LoadError, match="entry 2 of 2"):
        _ = found[1]


def test_a_file_of_many_entries_is_quick_to_open(tmp_path, monkeypatch):
    """Nothing of the pictures is touched before an example is opened."""
    path = write(tmp_path / "d.json", [talk(*LAKE, image=f"{n}.png") for n in range(500)])
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("opened"))
    found = open_examples(path)
    assert len({found.info(i).id for i in range(len(found))}) == 500
    assert json.loads(path.read_text())
