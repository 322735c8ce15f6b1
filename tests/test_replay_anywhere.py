"""A record replays to the same hash in any process: folder, home, locale, time zone, hash seed."""

from __future__ import annotations

import json
import locale
import os
import subprocess
import sys
from pathlib import Path

import pytest

from earthmind_lab.record import Record

INSTALLED = subprocess.run(
    ["locale", "-a"], capture_output=True, text=True, check=True
).stdout.split()  # fmt: skip
WORLDS = {
    "Kathmandu": {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    "St Johns": {"TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "4294967295"},
    "Germany": {"TZ": "Europe/Berlin", "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"},
    "Turkey": {"TZ": "Europe/Istanbul", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8",
               "PYTHONUTF8": "0"},
}  # fmt: skip


def earthmind(*words: object, folder: Path, **world: str) -> dict[str, object]:
    """One run of the command line in a process, a folder and a home of its own."""
    home = folder / "home"
    folder.mkdir(exist_ok=True)
    told = subprocess.run(
        [sys.executable, "-m", "earthmind_lab.cli", *map(str, words), "--json"], cwd=folder,
        env={**os.environ, "EARTHMIND_HOME": str(home), "PYTHONPATH": ROOT, **world},
        capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr.decode()
    found: dict[str, object] = json.loads(told.stdout.decode())
    return found


ROOT = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the embedded model, by a path that is relative to where it was asked."""
    folder = tmp_path_factory.mktemp("asked")
    found = earthmind(
        "ask", "Segment the water.", "--aoi", "-0.765,38.10,-0.755,38.11", "--dates",
        "2019-09-15/2019-09-20", "--out", "out", folder=folder, TZ="UTC", LC_ALL="C.UTF-8",
    )  # fmt: skip
    assert found["detections"]["features"]  # type: ignore[index]
    return folder / str(found["record"])


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_hash_everywhere(record: Path, tmp_path: Path, name: str) -> None:
    found = earthmind("replay", record, folder=tmp_path / name, **WORLDS[name])
    assert found == {"same": True, "differences": []}


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_bytes_everywhere(record: Path, tmp_path: Path, name: str) -> None:
    """What is read and written again is the same file, digests and all."""
    program = (
        "import locale, sys; from earthmind_lab.record import Record\n"
        "try: locale.setlocale(locale.LC_ALL, '')\nexcept locale.Error: pass\n"
        "Record.load(sys.argv[1]).save(sys.argv[2])"
    )
    again = tmp_path / "again.json"
    subprocess.run(
        [sys.executable, "-c", program, str(record), str(again)], check=True, timeout=60,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT, **WORLDS[name]},
    )  # fmt: skip
    assert again.read_bytes() == record.read_bytes()


def test_a_comma_for_the_decimal_point_changes_no_digest(record: Path) -> None:
    """In every locale that this machine has, set in this very process."""
    wanted, before = Record.load(record).to_dict()["digests"], locale.setlocale(locale.LC_ALL)
    try:
        for name in INSTALLED:
            locale.setlocale(locale.LC_ALL, name)
            assert Record.load(record).to_dict()["digests"] == wanted
    finally:
        locale.setlocale(locale.LC_ALL, before)
