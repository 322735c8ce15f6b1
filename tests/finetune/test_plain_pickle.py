"""The REFER index: read whatever its protocol, and never run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthmind_lab.errors import LoadError
from earthmind_lab.finetune.opening import open_examples
from earthmind_lab.finetune.plain_pickle import read_plain_pickle
from tests.finetune.sets import REFS, refer

PLAIN_TYPES = (list, dict, tuple, str, int, float, bool, type(None))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner)
    | st.tuples(inner, inner),
    max_leaves=30,
)  # fmt: skip


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_comes_back(tmp_path_factory, data, protocol):
    path = tmp_path_factory.mktemp("p") / "refs.p"
    path.write_bytes(pickle.dumps(data, protocol))
    found = read_plain_pickle(path)
    assert found == data and type(found) is type(data)


def test_halves_of_characters_are_no_text(tmp_path):
    (tmp_path / "refs.p").write_bytes(pickle.dumps("a\ud800", 2))
    assert read_plain_pickle(tmp_path / "refs.p") == "a?"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, protocol):
    path, sign = tmp_path / "refs.p", tmp_path / "pwned"
    path.write_bytes(pickle.dumps([{"ref_id": 1}, Hostile(sign)], protocol))
    with pytest.raises(LoadError, match="nothing of it was run"):
        read_plain_pickle(path)
    assert not sign.exists()
    pickle.loads(path.read_bytes())
    assert sign.exists()  # so the file was hostile


@pytest.mark.parametrize(
    "data",
    [
        b"", b"garbage", b"]", b"]a.", b"(.", b"0.", b"g7\n.", b"}]\x8c\x01as.",
        b"\x80\x04\x95\xff.", b"I" + b"9" * 9000 + b"\n.", b"cos\nsystem\n(S'true'\ntR.",
        b"\x8c\x01a\x8c\x01b\x93.", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", b"((((.", b"](a.",
        b"(q\x00h\x00.", b"(\x85.", b"K\x01K\x02.", pickle.dumps({1, 2}), pickle.dumps(b"bytes"),
        pickle.dumps(3j), pickle.dumps(ValueError),
    ],
)  # fmt: skip
def test_damaged_or_other(tmp_path, data):
    path = tmp_path / "refs.p"
    path.write_bytes(data)
    with pytest.raises(LoadError, match=r"refs\.p"):
        read_plain_pickle(path)


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("p") / "refs.p"
    path.write_bytes(data)
    try:
        found = read_plain_pickle(path)
    except LoadError:
        return
    assert isinstance(found, PLAIN_TYPES)


def test_the_published_form_gives_the_same_examples(tmp_path):
    refer(tmp_path)
    want = open_examples(tmp_path)
    (tmp_path / "refs.json").unlink()
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(REFS, 0))
    found = open_examples(tmp_path)
    assert "refs(unc).p" in found.said
    assert [found[i].prompt.text for i in range(3)] == [want[i].prompt.text for i in range(3)]
    with pytest.raises(LoadError, match="only an index"):
        open_examples(tmp_path / "refs(unc).p")


def test_reading_it_never_loads_the_unpickler(tmp_path):
    (tmp_path / "refs.p").write_bytes(pickle.dumps(REFS))
    code = (
        "import sys, pickletools, pickle; pickle.loads = pickle.load = pickle.Unpickler = None\n"
        "from pathlib import Path\n"
        "from earthmind_lab.finetune.plain_pickle import read_plain_pickle\n"
        f"print(len(read_plain_pickle(Path({str(tmp_path / 'refs.p')!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "3", done.stderr
