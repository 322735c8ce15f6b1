from __future__ import annotations

import random

import pytest

from earthmind_lab.engine.base import StopRule
from earthmind_lab.engine.transcript import Transcript, names, visible

STOP = StopRule(strings=("<|end|>",), ids=(0,), hidden=("<p>", "</p>"))


def decode(ids):
    return bytes(ids).decode(errors="replace")


def write(raw: str | bytes) -> tuple[str, str, int]:
    """Increments joined, final text, tokens until the stop rule spoke (0 = never)."""
    transcript, parts, ended = Transcript(decode, STOP), [], 0
    for count, token in enumerate(raw.encode() if isinstance(raw, str) else raw, start=1):
        if transcript.append(token):
            ended = ended or count
        parts.append(transcript.increment())
    last, text = transcript.finish()
    return "".join(parts) + last, text, ended


@pytest.mark.parametrize(
    ("raw", "text", "labels"),
    [
        ("Sure, the water: [SEG].<|end|>", "Sure, the water.", ["water"]),
        ("sure , [SEG] .", "sure.", ["object"]),
        ("It is [SEG].", "It is.", ["object"]),
        (
            "Sure, the segmentation result is [SEG].",
            "Sure, the segmentation result is.",
            ["object"],
        ),
        ("[SEG]", "", ["object"]),
        ("[SEG]. Two lakes.", "Two lakes.", ["object"]),
        ("Water: [SEG], trees: [SEG].", "Water, trees.", ["Water", "trees"]),
        (
            "The lake [SEG] and two ships [SEG], [SEG].",
            "The lake and two ships.",
            ["lake", "two ships", "two ships"],
        ),
        ("<p>bare soil</p> [SEG].", "bare soil.", ["bare soil"]),
        ("Here is the built-up area: [SEG].", "Here is the built-up area.", ["built-up area"]),
        ("water [SEG]trees", "water trees", ["water"]),
        ("No marks, all text: a, b;", "No marks, all text: a, b;", []),
    ],
)
def test_marks_become_names(raw, text, labels):
    assert visible(raw, STOP) == text
    found = names(raw, STOP)
    assert [name.label for name in found] == labels
    for name in found:
        if name.span is None:
            assert name.label == "object"
        else:
            assert text[slice(*name.span)] == name.label


def test_increments_add_up_to_the_text_whatever_is_written():
    draw = random.Random(7)
    pieces = [
        "the ",
        "water",
        ":",
        " ",
        ",",
        ".",
        "[SEG]",
        "[SE",
        "<|end|>",
        "<|e",
        "<p>",
        "</p>",
        "é",
        "水",
        "🛰",
        "\n",
        " is ",
        "and",
    ]
    for _ in range(400):
        raw = "".join(draw.choices(pieces, k=draw.randint(1, 12)))
        streamed, text, _ = write(raw)
        assert streamed == text == visible(raw, STOP).rstrip(), raw


def test_a_character_of_several_tokens_is_never_cut():
    transcript = Transcript(decode, STOP)
    seen = []
    for byte in "水 ok".encode():
        transcript.append(byte)
        seen.append(transcript.increment())
    assert seen == ["", "", "水", "", " o", "k"]


def test_bytes_that_are_no_character_do_not_swallow_the_rest():
    streamed, text, _ = write(b"a\xffb\xff")
    assert streamed == text == "a�b�"


def test_stop_string_is_found_as_text_and_newlines_around_it_do_not_hide_it():
    assert write("yes<|end|>")[2] == len("yes<|end|>")
    assert write("yes\n<|end|>\n")[2] == len("yes\n<|end|>")
    assert write("yes<|end|")[2] == 0
    assert write(b"yes\x00")[2] == 4


def test_a_decoder_that_joins_words_with_blanks():
    words = ["sure", "the", "water", "[SEG]", "."]
    transcript = Transcript(lambda ids: " ".join(words[i] for i in ids), StopRule())
    parts = []
    for index in range(len(words)):
        transcript.append(index)
        parts.append(transcript.increment())
    last, text = transcript.finish()
    assert "".join(parts) + last == text == "sure the water."
