"""From labelled areas to a model that is handed on and asked: nano and the embedded catalog."""

from __future__ import annotations

import json

import pytest

import earthmind_lab as em
from earthmind_lab import cli
from earthmind_lab.data.samples import place
from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.areas import labelled_areas
from earthmind_lab.finetune.card import Card
from earthmind_lab.finetune.checking import check_examples
from earthmind_lab.finetune.embedded import embedded_examples
from earthmind_lab.finetune.examples import Chosen
from earthmind_lab.finetune.gate import publish
from earthmind_lab.finetune.leaks import find_leaks
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune
from earthmind_lab.model.processing import EarthMindProcessor
from tests.finetune import embedded

DATES = "2017-01-01/2023-12-31"
SMALL = ("steps=3", "lora.rank=4", "accumulation=2", "evaluation.answers=5", "device=cpu",
         "rehearsal.share=0.1")  # fmt: skip


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    path = tmp_path_factory.mktemp("areas") / "areas.geojson"
    return embedded.areas(path, mapped=("chile", "denmark"), drawn=("finland_lake",))


def test_through_python(areas, tmp_path):
    processor = EarthMindProcessor.from_pretrained("nano")
    made = labelled_areas(
        areas, DATES, catalog="sample", side_km=1.0, max_gap="30 days", max_cloud=100,
        composites=processor.config.composites, licence="CC-BY-4.0",
    )  # fmt: skip
    assert list(made.sets) == ["train", "validation", "test"]
    assert "unknown" not in made.source.said
    assert not find_leaks(made["train"], made["test"])
    assert check_examples(made["train"], processor, against=made["test"]).ok
    every = embedded_examples(composites=processor.config.composites)
    guard = Chosen(every, [i for i in range(len(every)) if "spain" in every.info(i).id])
    run = finetune(
        Recipe.load("few").replace(*SMALL), out=tmp_path / "run", train=made["train"],
        validation=made["validation"], test=made["test"], guard=guard,
    )  # fmt: skip
    card = run.card()
    assert card.data["sets"]["guard"]["asked"] == 5 and card.data["sets"]["test"]["asked"] > 1
    said = {o["before"]["said"] for o in card.data["sets"]["guard"]["outcomes"]}
    assert any(text.lower().startswith(("yes", "no")) for text in said)
    told = publish(run, tmp_path / "model", merged=True, margin=0.99)
    assert told.terms.alike == "CC-BY-SA-4.0"  # nano's own, and some of the scenes'
    engine = load_engine(tmp_path / "model", device="cpu")
    try:
        aoi = em.AOI.from_bbox(*place("spain").bbox)
        pair = em.search_pairs(aoi, place("spain").dates, catalog="sample")[0]
        answer = em.ask(em.load_chip(pair, aoi), "Is there water here?", engine=engine)
        assert answer.text and "share alike" in answer.record.to_dict()["model"]["licence"]
    finally:
        engine.close()


def test_areas_from_the_command_line(areas, tmp_path, capsys):
    sets = [word for change in SMALL for word in ("--set", change)]
    about = {"dates": DATES, "catalog": "sample", "side_km": "1.0", "max_gap": "30 days"}
    for key, value in {**about, "max_cloud": "100"}.items():
        sets += ["--set", f"areas.{key}={value}"]
    out = str(tmp_path / "run")
    words = ["finetune", "run", "few", "--data", str(areas), "--licence", "CC-BY-4.0"]
    assert cli.main([*words, "--out", out, *sets]) == 0
    captured = capsys.readouterr()
    assert "test, region" in captured.out and "validation" in captured.err
    card = Card.load(out).data
    assert set(card["sets"]) == {"test"} and card["recipe"]["areas"]["side_km"] == 1.0
    assert cli.main(["finetune", "publish", out, "--out", str(tmp_path / "given")]) == 2
    assert "--without-guard" in capsys.readouterr().err
    assert not (tmp_path / "given").exists()
    words = ["finetune", "publish", out, "--out", str(tmp_path / "given"), "--without-guard"]
    assert cli.main([*words, "--json"]) == 0
    assert "CC-BY-SA-4.0 (share alike)" in json.loads(capsys.readouterr().out)["licence"]
    held = json.loads((tmp_path / "given" / "card.json").read_text())
    assert held["recipe"]["data"][0]["path"] == "areas.geojson"


def test_few_places_have_fewer_sides(areas):
    path = areas.with_name("two.geojson")
    embedded.areas(path, mapped=("denmark",), drawn=("finland_lake",))
    both = labelled_areas(
        path, DATES, catalog="sample", side_km=1.0, max_gap="30 days", max_cloud=100, block_km=50,
    )  # fmt: skip
    assert list(both.sets) == ["train", "test"] and "two places" in repr(both)
    with pytest.raises(EarthMindError, match="can't be split into 3 sides"):
        labelled_areas(
            path, DATES, catalog="sample", side_km=1.0, max_cloud=100,
            max_gap="30 days", block_km=50, shares={"a": 1, "b": 1, "c": 1},
        )  # fmt: skip
