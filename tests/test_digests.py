"""Damage is found where it is: any change of plain data, and any single bit of a record's file."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthmind_lab import cli
from earthmind_lab.conversation import Conversation
from earthmind_lab.data.bundle import open_bundle, save_bundle
from earthmind_lab.digests import KEY, broken_parts, canonical, find_break, seal
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Region
from earthmind_lab.record import Record
from earthmind_lab.replay import read_record, replay
from tests.stand_in_engine import StandInEngine, make_chip, square

WATER = square((40, 40), (0, 10, 0, 20))
FLIPS = 1200
NAMES = st.from_regex(r"[a-z]{1,4}", fullmatch=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def written(record: Record, folder: Path) -> bytes:
    return record.save(folder / "record.json").read_bytes()


@pytest.fixture(scope="module")
def record() -> Record:
    talk = Conversation(make_chip(water=WATER), StandInEngine({"water": WATER}))
    talk.ask('Gibt es Wasser in Süßen?\n"Ja"')
    region = Region(mask=WATER, label="region1")
    return talk.ask("Segment the water.", regions=[region]).record


@pytest.fixture(scope="module")
def raw(record: Record, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(record, tmp_path_factory.mktemp("whole"))


@given(st.dictionaries(NAMES, PLAIN, max_size=5))
def test_what_was_sealed_is_whole_after_json(data: dict[str, Any]) -> None:
    made = json.loads(json.dumps(seal(data)))
    assert broken_parts(made) == []
    assert seal(made) == made


@given(st.dictionaries(NAMES, PLAIN, min_size=1, max_size=5), PLAIN, st.data())
def test_a_changed_field_is_named(data: dict[str, Any], other: Any, draw: Any) -> None:
    name = draw.draw(st.sampled_from(sorted(data)))
    made = json.loads(json.dumps(seal(data)))
    same = canonical(made[name]) == canonical(other)
    broken = broken_parts({**made, name: other})
    assert bool(broken) is not same
    assert all(re.match(rf"{name}(\.|\[|$)", path) for path in broken)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2, "0.30000000000000004"), (1e22, "1e+22"), (-0.0, "-0.0"), (10, "10"),
     (5e-324, "5e-324"), ("ß\u2028\U0001f30d", '"\\u00df\\u2028\\ud83c\\udf0d"'),
     ({"é": 1, "z": 2, "a": 3}, '{"a":3,"z":2,"\\u00e9":1}')],
)  # fmt: skip
def test_the_canonical_text_is_fixed(value: Any, text: str) -> None:
    assert canonical(value) == text


def owner(raw: bytes, offset: int) -> str:
    """Field, and number in a list of the top, that a byte of the file lies in."""
    before = raw[: raw.find(b"\n", offset)].decode("ascii").split("\n")
    field = next(found[1] for line in before[::-1] if (found := re.match(r'  "(\w+)":', line)))
    start = max(n for n, line in enumerate(before) if line.startswith(f'  "{field}":'))
    number = sum(line == "    {" for line in before[start:]) - 1
    return f"{field}[{number}]" if field in ("inputs", "evidence") and number >= 0 else field


def neighbours(raw: bytes, offset: int) -> set[str]:
    """The parts on either side: a flipped bracket, line end or first quote is of the one or both.

    A bracket may also be the whole list's.
    """
    line_start = raw.rfind(b"\n", 0, offset) + 1
    line_end = raw.find(b"\n", offset) % len(raw)
    near = {offset}
    bare = not raw[line_start:line_end].strip(b" []{},")
    if bare or raw[offset] in b" \n," or not raw[line_start:offset].strip():
        near |= {max(line_start - 2, 4), min(line_end + 8, len(raw) - 2)}
    if raw[offset : offset + 1] == b"\n":
        near.add(min(offset + 12, len(raw) - 2))
    found = {owner(raw, each) for each in near}
    return found | {each.partition("[")[0] for each in found if bare}


def test_a_flipped_bit_is_located(raw: bytes, tmp_path: Path) -> None:
    """Every flip is named in the right part, or changes nothing that the JSON says."""
    dice, path = random.Random(8), tmp_path / "record.json"
    whole, harmless, kinds = json.loads(raw), 0, {"grammar": 0, "content": 0}
    for offset in dice.sample(range(6, len(raw) - 2), FLIPS):
        bit = 1 << dice.randrange(8)
        path.write_bytes(raw[:offset] + bytes([raw[offset] ^ bit]) + raw[offset + 1 :])
        try:
            read_record(path)
        except EarthMindError as error:
            text = str(error)
        else:
            assert canonical(json.loads(path.read_bytes())) == canonical(whole)
            harmless += 1
            continue
        kinds["content" if "a digest that differs" in text else "grammar"] += 1
        said = text.partition("is not as it was written: ")[2].replace(" of input ", " inputs#")
        said = re.sub(r"the ([\w ]+) inputs#(\d+)", lambda m: f"inputs[{int(m[2]) - 1}]", said)
        near = neighbours(raw, offset)
        assert any(re.search(rf"\b{re.escape(each)}", said) for each in near), (
            offset, raw[offset - 30 : offset + 30], path.read_bytes()[offset], near, text,
        )  # fmt: skip
    assert harmless < FLIPS * 0.01
    assert min(kinds.values()) > FLIPS * 0.1


def test_the_first_and_the_last_bytes_are_a_break_too(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for offset in (*range(6), len(raw) - 2, len(raw) - 1):
        for bit in range(8):
            path.write_bytes(raw[:offset] + bytes([raw[offset] ^ 1 << bit]) + raw[offset + 1 :])
            with pytest.raises(EarthMindError):
                read_record(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [('0",\n      "modality"', '1",\n      "modality"', "the licence of input 1"),
     ('"kind": "presence"', '"kind": "count"', "evidence[0]"),
     ("Gibt es", "Gab es", "prompt.history[0]"),
     ('"verdict"', '"verdict', "evidence[0]"),
     ('"observed": "2', '"observed": "2"', "the observed of input 1"),
     ('"created": "2', '"created": "1', "created"),
     (f'"{KEY}"', '"digest"', KEY)],
)  # fmt: skip
def test_the_broken_link_is_named(
    raw: bytes, tmp_path: Path, old: str, new: str, named: str
) -> None:
    path = tmp_path / "record.json"
    assert old in raw.decode()
    path.write_text(raw.decode().replace(old, new, 1))
    with pytest.raises(EarthMindError, match=re.escape(named)):
        replay(path)


def test_records_of_the_first_format_are_read_and_say_that_they_have_no_digests(
    record: Record, tmp_path: Path
) -> None:
    data = {**record.to_dict(), "format": 1}
    del data[KEY]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(data, indent=2, sort_keys=True))
    old = Record.load(path)
    assert not old.sealed and old.to_dict() == data
    assert Record.load(old.save(tmp_path / "again.json")) == old
    said = replay(old, engine=StandInEngine({"water": WATER})).differences
    assert said  # its made-up scenes are in no catalog
    assert find_break("{", 1) == find_break("", 1) == []


def test_digests_are_of_what_is_written_now(record: Record, tmp_path: Path) -> None:
    """A record that was replaced in part is sealed anew, not refused."""
    changed = replace(record, created="2020-01-01T00:00:00Z")
    assert Record.load(changed.save(tmp_path / "record.json")) == changed
    assert changed.to_dict()[KEY]["all"] != record.to_dict()[KEY]["all"]
    assert changed.analysis() == record.analysis()


@pytest.mark.parametrize(
    "inner", ["[" * 200_000, "[" * 2_000 + "]" * 2_000, "NaN", "1e999", "1" * 5000]
)
def test_hostile_text_is_refused_like_any_damage(raw: bytes, tmp_path: Path, inner: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(re.sub(r'"created": ".*"', f'"created": {inner}', raw.decode()))
    with pytest.raises(EarthMindError):
        read_record(path)


def test_the_command_line_names_the_part(
    raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    path.write_text(
        raw.decode().replace('"attribution": "contains o', '"attribution": "contains O')
    )
    assert cli.main(["replay", str(path), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "is not as it was written: the attribution of input 1" in said.err


def test_a_bundle_seals_what_it_carries(record: Record, tmp_path: Path) -> None:
    """Addresses lose their keys on the way in, so the digests are of what is inside."""
    asked = replace(record, question="https://host/a.tif?sig=SECRET")
    path = save_bundle([make_chip(water=WATER)], tmp_path / "a.zip", records=[asked, record])
    first, second = open_bundle(path).records
    assert first.question == "https://host/a.tif"
    assert second == record
