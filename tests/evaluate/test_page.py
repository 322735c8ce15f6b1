"""docs/evaluate.md says what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from earthmind_lab.cli import build_parser
from earthmind_lab.engine import load_engine
from earthmind_lab.evaluate.controls import CONTROLS
from earthmind_lab.evaluate.legends import CLASSES, CODES
from earthmind_lab.evaluate.metrics import LEAST_UNITS
from earthmind_lab.evaluate.walk import CLOUDY, MAX_GAP, TWIN_GAP

PAGE = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())


def test_the_legends_are_those_of_the_code():
    rows = re.findall(r"^\| ([a-z -]+) \| ([\d, ]*) \| ([\d, ]*) \| ([\d, ]*) \|$", PAGE, re.M)
    told = {legend: {} for legend in ("worldcover", "esri", "corine")}
    for name, *cells in rows:
        for legend, cell in zip(told, cells, strict=True):
            for code in filter(None, cell.replace(" ", "").split(",")):
                told[legend][int(code)] = name if name in CLASSES else None
    assert told == {legend: CODES[legend] for legend in told}
    assert len(told["corine"]) == 44


def test_numbers_and_words_are_those_of_the_code():
    assert LEAST_UNITS == 8 and "Below eight places" in PROSE
    assert f"at most {MAX_GAP.days} days" in PROSE and f"within {TWIN_GAP.days} days" in PROSE
    assert f"({CLOUDY:g} % and more)" in PROSE
    assert f"--control {' | '.join(CONTROLS)}" in PROSE


def test_the_scores_are_of_the_embedded_model():
    assert f"revision `{load_engine('nano').revision}`" in PROSE


@pytest.mark.parametrize("line", re.findall(r"^earthmind .*$", PAGE, re.M))
def test_commands_parse(line):
    assert build_parser().parse_args(shlex.split(line)[1:]).name == "evaluate"


def test_examples_run(capsys):
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, {})
    out = capsys.readouterr().out
    assert "| denmark | denmark | no | optical | label map | crops, rangeland |" in out
    assert "a ('a',) ('b',)" in out
