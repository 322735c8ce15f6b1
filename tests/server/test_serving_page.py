"""docs/serving.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

import earthmind_lab as em
from earthmind_lab.data.samples import place
from earthmind_lab.engine import load_engine
from earthmind_lab.render import render
from earthmind_lab.server.app import create_app
from earthmind_lab.server.limits import Limits
from tests.server.served import TOKEN, served

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_example_asks_by_openais_client(tmp_path, monkeypatch, capsys):
    lake = place("finland_lake")
    area = em.AOI.from_bbox(*lake.bbox)
    chip = em.load_chip(em.search_pairs(area, dates=lake.dates)[0], area)
    # In true colour alone nano overlooks water; the page says so.
    Image.fromarray(render(chip, ["swir_nir_red"])[0].image).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EARTHMIND_TOKEN", TOKEN)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with served(load_engine("nano")) as server:
        here = code.replace("http://127.0.0.1:8000", server.url)
        assert here != code
        exec(compile(here, "serving.md", "exec"), {})
    first, *rest = capsys.readouterr().out.splitlines()
    assert rest[-1] == first
    assert "water" in first
    assert any("counts" in line and line.startswith("water ") for line in rest[:-1])


def test_every_route_is_named():
    about = create_app(None, token=None).openapi()["paths"]
    named = re.findall(r"^\| `(GET|POST) (\S+)`", PAGE, re.MULTILINE)
    for method, path in named:
        assert path == "/openapi.json" or method.lower() in about[path]
    ours = {path for path in about if not path.startswith("/v1/earthmind/")}
    assert ours - {"/v1/models/{name}"} <= {path for _, path in named}


def test_the_limits_are_those_of_the_code():
    limits = Limits()
    for told in (
        f"| {limits.body_bytes >> 20} MB; {limits.bodies_bytes >> 30} GB |",
        f"| {limits.words_bytes >> 20} MB, with {limits.characters:,} characters of text |",
        f"| {limits.pictures}, with {limits.pixels // 10**6} million pixels in all |",
        f"| {limits.decoded_bytes >> 30} GB, counted before",
        f"| {limits.asks_per_seat} of a seat, {limits.asks_per_token} of all seats of a token |",
        f"| {limits.new_tokens} tokens, {limits.ask_seconds / 60:g} minutes |",
    ):
        assert told in PAGE
