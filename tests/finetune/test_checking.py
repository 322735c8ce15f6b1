"""The check: every example once, every fault by name, and what the model will see."""

from __future__ import annotations

import json
import re
import zlib

import numpy as np
import pytest
from shapely.geometry import box

from earthmind_lab import cli
from earthmind_lab.errors import EarthMindError, LoadError
from earthmind_lab.exchange import Prompt, Region, View
from earthmind_lab.finetune.checking import check_examples
from earthmind_lab.finetune.examples import Example, ExampleInfo, Listed
from earthmind_lab.finetune.opening import open_examples
from tests.finetune.sets import picture, refer, square, talk, write


@pytest.fixture(scope="module")
def processor():
    from earthmind_lab.model.processing import EarthMindProcessor

    return EarthMindProcessor.from_pretrained("nano")


def view(seed=0, side=(16, 16), modality="optical", name="picture"):
    image = np.random.default_rng(seed).integers(0, 256, (*side, 3), dtype=np.uint8)
    return View(image=image, name=name, modality=modality)


def example(name="1", question="Is there water?", reply="Yes.", masks=None, views=None, **about):
    about = {"task": "question", "licence": "MIT", "pictures": (f"/{name}.png",), **about}
    views = (view(zlib.crc32(name.encode())),) if views is None else views
    return Example(
        info=ExampleInfo(id=name, **about),
        prompt=Prompt(text=question, views=views),
        reply=reply,
        masks=masks,
    )


def mask(count=1, side=(16, 16)):
    found = np.zeros((count, *side), bool)
    found[:, 2:5, 2:5] = True
    return found


def kinds(report):
    return [(problem.id, problem.kind) for problem in report.problems]


def test_good_data(processor):
    good = [example("1"), example("2", "Segment the water.", "Sure, [SEG].", mask())]
    report = check_examples(Listed(good), processor)
    assert report.ok and not report.warnings and report.refused == ()
    assert report.lines()[-1] == "Nothing speaks against training on it."
    assert report.limit == 2048
    assert report.to_dict()["tasks"] == {"question": 2}


def test_tokens_are_those_of_training(processor):
    from earthmind_lab.model.samples import Sample, training_batch

    pair = (view(1), view(2, modality="sar", name="vv"))
    frames = tuple(view(n) for n in range(3))
    region = Prompt(text="What?", views=(view(1),), regions=(Region(mask=mask()[0]),))
    several = [
        example("1"), example("2", "Segment it.", "Sure, [SEG].", mask()),
        example("3", views=pair), example("4", views=frames), example("5", views=()),
        Example(info=ExampleInfo(id="6", task="region"), prompt=region, reply="Water."),
    ]  # fmt: skip
    report = check_examples(Listed(several), processor)
    assert report.ok, report
    for index, each in enumerate(several):
        sample = Sample(prompt=each.prompt, reply=each.reply, masks=each.masks)
        batch = training_batch(processor, [sample])
        assert report.tally.tokens[index] == batch["input_ids"].shape[1]
        assert report.tally.reply_tokens[index] == int((batch["labels"] != -100).sum())
    each = processor.config.tokens_per_tile
    assert report.tally.picture_tokens == [each, each, 2 * each, 3 * each, 0, each]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"reply": "Sure, [SEG].", "masks": None}, "marks"),
        ({"reply": "Sure.", "masks": mask()}, "marks"),
        ({"reply": "[SEG] and [SEG]", "masks": mask()}, "marks"),
        ({"reply": "[SEG]", "masks": mask() & False}, "empty mask"),
        ({"reply": "[SEG]", "masks": mask(side=(16, 17))}, "mask size"),
        ({"reply": "[SEG]", "masks": mask(), "views": ()}, "mask size"),
        ({"reply": ""}, "no answer"),
        ({"reply": " <|end|>"}, "no answer"),
        ({"reply": "Yes.<|end|> No."}, "marks"),
        ({"question": "water " * 3000}, "too long"),
        ({"views": tuple(view(n) for n in range(9))}, "arrangement"),
    ],
)
def test_what_is_refused_by_name(processor, bad, kind):
    report = check_examples(Listed([example("good"), example("bad", **bad)]), processor)
    assert kinds(report) == [("bad", kind)]
    assert not report.ok and report.refused == ("bad",)
    assert any(line.startswith(f"Refused, {kind}: bad: ") for line in report.lines())
    assert "1 examples are refused" in report.lines()[-1]


def test_no_refusal_would_train(processor):
    """What the check passes over masks, training takes; what it refuses, training refuses."""
    from earthmind_lab.errors import PromptError
    from earthmind_lab.model.samples import Sample, training_batch

    for reply, masks in (("[SEG]", None), ("Sure.", mask()), ("[SEG]", mask(side=(16, 17)))):
        bad = example("bad", reply=reply, masks=masks)
        assert not check_examples(Listed([bad]), processor).ok
        with pytest.raises(PromptError):
            training_batch(processor, [Sample(prompt=bad.prompt, reply=reply, masks=masks)])


def test_a_limit_of_the_recipe(processor):
    report = check_examples(Listed([example("1")]), processor, max_tokens=10)
    assert kinds(report) == [("1", "too long")] and report.limit == 10
    assert "Nothing is cut" in report.problems[0].text


def test_a_chip_that_an_engine_would_refuse_is_refused(processor):
    image = np.random.default_rng(0).integers(0, 256, (353, 20, 3), dtype=np.uint8)
    chip = View(image=image, name="vv", modality="sar", gsd=10.0)
    plain = View(image=image, name="picture", modality="optical")
    report = check_examples(Listed([example("1", views=(chip,)), example("2", views=(plain,))]),
                            processor)  # fmt: skip
    assert kinds(report) == [("1", "arrangement")]
    assert "at most 352" in report.problems[0].text


def test_a_broken_example_is_reported_and_each_is_opened_once(processor):
    opened = []

    class Source(Listed):
        def __getitem__(self, index):
            opened.append(index)
            if index == 1:
                raise LoadError("d.json, entry 2 of 3: gone")
            return self.examples[index]

    three = Source([example(str(n)) for n in range(3)])
    report = check_examples(three, processor, against=Listed([example("x")]))
    assert opened == [0, 1, 2]
    assert kinds(report) == [("1", "broken")] and "entry 2 of 3" in report.problems[0].text


def test_it_can_be_interrupted(processor):
    class Source(Listed):
        def __getitem__(self, index):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_examples(Source([example()]), processor)


def test_nothing_to_check():
    with pytest.raises(EarthMindError, match="no examples"):
        check_examples(Listed([]))


def test_without_a_model():
    report = check_examples(Listed([example(), example("2", reply="[SEG]", masks=mask(2))]))
    assert report.limit is None and report.shown == () and kinds(report) == [("2", "marks")]


# --- answers that can be learned by heart ------------------------------------------------------


def said(*answers, question="Is there water?"):
    many = [example(str(n), question, reply) for n, reply in enumerate(answers)]
    return check_examples(Listed(many))


def test_a_constant_answer_is_a_trap():
    report = said(*["No."] * 19, "Yes.")
    assert report.yes_no == {"yes": 1, "no": 19}
    assert (
        "19 of 20 yes/no answers are no: a model that always says no is right in 95%"
        in (report.warnings[0])
    )
    assert report.ok
    assert not said(*["No."] * 9).warnings
    assert not said(*["No."] * 11, *["Yes, there is."] * 9).warnings


def test_a_question_that_is_always_answered_alike_is_one_too():
    many = [example(f"a{n}", "Is there snow?", "No.") for n in range(10)]
    many += [example(f"b{n}", "Is there  Water?", "yes") for n in range(10)]
    warnings = check_examples(Listed(many)).warnings
    assert [re.search(r"'(.*)' is always (\w+)", text).groups() for text in warnings] == [
        ("is there snow?", "no"), ("is there water?", "yes")
    ]  # fmt: skip


def test_repeated_and_contradicting_answers():
    many = [example("1", "What?", "A lake."), example("1", "What?", "a  lake."),
            example("1", "What?", "A pond."), example("2"), example("2", reply="No.")]  # fmt: skip
    twice, against = check_examples(Listed(many)).warnings
    assert "1 questions come twice" in twice and "answered yes and no, such as 2, 2" in against
    captions = [example("1", "Describe.", "A lake."), example("1", "Describe.", "Water.")]
    assert not check_examples(Listed(captions)).warnings


def test_licences_and_places():
    many = [example("1", licence=""), example("2", place=box(1, 2, 3, 4)),
            example("3", place=box(0, 5, 1, 6))]  # fmt: skip
    report = check_examples(Listed(many))
    assert "1 of 3 examples say no licence" in report.warnings
    assert "1 of 3 examples have no place" in report.warnings
    assert report.to_dict()["bounds"] == [0, 2, 3, 6]
    assert report.to_dict()["licences"] == {"MIT": 2, "not said": 1}


def test_leaks_are_held_against_it():
    report = check_examples(Listed([example("1")]), against=Listed([example("1")]))
    assert not report.ok and [leak.kind for leak in report.leaks] == ["file"]
    assert report.lines()[-1] == "Not as it is: it shares 1 things with the other set."


def test_two_chips_of_one_scene_are_two_pictures():
    """Their pixels must not be mixed up for having the item in common."""
    here, there = box(0, 0, 1, 1), box(5, 5, 6, 6)
    first = [example("a", pictures=("S2",), place=here, views=(view(1),)),
             example("b", pictures=("S2",), place=there, views=(view(2),))]  # fmt: skip
    second = [example("c", pictures=("/x.png",), views=(view(2),))]
    (leak,) = check_examples(Listed(first), against=Listed(second)).leaks
    assert (leak.kind, leak.first, leak.second) == ("pixels", ("b",), ("c",))


# --- what is shown -----------------------------------------------------------------------------


def test_examples_are_shown_as_the_model_sees_them(processor, tmp_path):
    pair = (view(1), view(2, modality="sar", name="vv"))
    evil = "<script>alert(1)</script>"
    many = [example("1", "Segment it.", "[SEG]", mask(), views=pair), example("2", evil, evil)]
    report = check_examples(Listed(many), processor)
    one, two = report.shown
    names = [caption for caption, _ in one.squares]
    assert names == ["vv, square 1 of 1", "optical, square 1 of 1"]
    assert [caption for caption, _ in one.drawn] == ["masks on vv"]
    count = processor.config.tokens_per_tile
    assert f"<IMG_CONTEXT>×{2 * count}</img>" in one.prompt and "Segment it." in one.prompt
    assert one.squares[0][1].startswith("data:image/jpeg;base64,")
    page = report._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    files = report.save(tmp_path / "out")
    assert json.loads(files["check.json"].read_text())["ok"] is True
    assert "<script>" not in files["check.html"].read_text()
    assert two.drawn == ()


def test_a_handful_is_shown_and_a_wrong_mask_does_not_stop_it(processor):
    many = [example(str(n), "Segment it.", "[SEG]", mask(side=(9, 9))) for n in range(30)]
    report = check_examples(Listed(many), processor, shown=3)
    assert [each.id for each in report.shown] == ["0", "14", "29"]
    assert len(report.problems) == 30 and report.shown[0].drawn == ()
    assert "Refused, mask size: 20 more" in report.lines()


# --- the command line --------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def run(*words):
        code = cli.main(["finetune", "check", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_command_line(tmp_path, run):
    refer(tmp_path / "set")
    code, out, _ = run(tmp_path / "set", "--split", "train", "--out", tmp_path / "out", "--json")
    assert code == 0
    data = json.loads(out)
    assert data["ok"] and data["examples"] == 2 and data["licences"] == {"CC-BY-4.0": 2}
    assert data["tokens"]["most"] <= data["limit"] == 2048
    assert data["files"]["check.html"] == str(tmp_path / "out" / "check.html")
    assert (tmp_path / "out" / "check.html").is_file()


def test_two_splits_of_one_index_are_compared(tmp_path, run):
    refer(tmp_path / "set")
    picture(tmp_path / "set" / "images" / "2.jpg", seed=2)
    words = (tmp_path / "set", "--split", "train", "--against", tmp_path / "set")
    assert run(*words, "--against-split", "val")[0] == 0
    assert run(*words, "--against-split", "train")[0] == 1


def test_command_line_refuses_with_one(tmp_path, run):
    picture(tmp_path / "a.png")
    path = write(
        tmp_path / "d.json",
        [talk("Where?", "[SEG]", image="a.png", masks=[square(99, 99, 100, 100)]),
         talk("a?", "b", image="gone.png")],
    )  # fmt: skip
    code, out, _ = run(path)
    assert code == 1
    assert "Refused, empty mask: d-1: mask 1 marks no pixel" in out
    assert "Refused, broken: d-2: d.json, entry 2 of 2: there is no picture 'gone.png'" in out
    code, out, _ = run(path, "--against", path, "--json")
    assert code == 1 and json.loads(out)["leaks"][0]["kind"] == "file"
    assert run(path, "--max-tokens", "0")[0] == 2


def test_command_line_errors(tmp_path, run):
    for words, message in (
        ((tmp_path / "gone.json",), "no training data"),
        ((write(tmp_path / "d.json", [{"x": 1}]),), "none of the forms"),
        ((write(tmp_path / "e.json", [talk("a", "b")]), "--model", tmp_path), "tokenizer"),
        ((tmp_path / "e.json", "--out", tmp_path / "d.json"), "is a file"),
        ((tmp_path / "e.json", "--form", "coco"), "invalid choice"),
        ((), "required: DATA"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, "") and message in err and "Traceback" not in err


def test_a_whole_set_through_one_door(tmp_path, processor):
    picture(tmp_path / "a.png")
    said = {"image": "a.png", "license": "MIT"}
    entries = [talk(f"Water {n}?", "Yes." if n % 2 else "No.", **said) for n in range(20)]
    report = check_examples(open_examples(write(tmp_path / "d.jsonl", entries)), processor)
    assert report.ok and not report.warnings and report.yes_no == {"yes": 10, "no": 10}
    assert "d.jsonl: conversations" in repr(report)
