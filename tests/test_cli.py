"""The command line's contract: one JSON object or a message, an exit code, never half a file."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from earthmind_lab import checks, cli, settings
from earthmind_lab.engine.room import Room
from earthmind_lab.exchange import Usage
from tests.stand_in_engine import NOTICE, StandInEngine, square
from tests.tiny_catalog import AOI, DATES, write_catalog

PAIR_KEYS = {
    "optical", "sar", "gap_hours", "overlap", "cloud_in_aoi", "score", "factors", "reasons",
}  # fmt: skip
SQUARE = [[-0.718, 38.107], [-0.714, 38.107], [-0.714, 38.110], [-0.718, 38.110], [-0.718, 38.107]]
BOWTIE = [[-0.718, 38.107], [-0.714, 38.110], [-0.714, 38.107], [-0.718, 38.110], [-0.718, 38.107]]


@pytest.fixture
def catalog(tmp_path):
    return str(write_catalog(tmp_path / "catalog"))


@pytest.fixture
def engine(monkeypatch):
    double = StandInEngine({"water": lambda shape: square(shape, (5, 20, 5, 30))})
    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", lambda *_, **__: double)
    return double


@pytest.fixture
def run(capsys):
    """Run the command line: exit code, stdout, stderr."""

    def run(*words):
        code = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fails(run, tmp_path):
    """Run words that must fail by the contract; gives the message."""

    def fails(*words):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert err.strip()
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return fails


def place(catalog, aoi=AOI, dates=DATES):
    return ["--aoi", aoi, "--dates", dates, "--catalog", catalog]


# --- what it gives -------------------------------------------------------------------------------


@pytest.mark.parametrize("aoi", [["--aoi", AOI], [f"--aoi={AOI}"]])
def test_search_json(run, catalog, aoi):
    code, out, _ = run("search", *aoi, "--dates", DATES, "--catalog", catalog, "--json")
    assert (code, out.count("\n")) == (0, 1)
    (pair,) = json.loads(out)["pairs"]
    assert set(pair) == PAIR_KEYS
    assert (pair["optical"], pair["sar"]) == ("opt", "sar")
    assert pair["gap_hours"] == pytest.approx(31.17)


@pytest.mark.parametrize(("sensors", "other"), [("optical", "sar"), ("sar", "optical")])
def test_search_for_one_sensor(run, catalog, sensors, other):
    _, out, _ = run("search", *place(catalog), "--sensors", sensors, "--json")
    (pair,) = json.loads(out)["pairs"]
    assert pair[other] is None
    assert pair["gap_hours"] is None


def test_search_shows_rejected_candidates_where_asked(run, catalog):
    _, out, _ = run("search", *place(catalog), "--sensors", "optical,sar", "--json", "--all")
    data = json.loads(out)
    assert list(data) == ["pairs", "rejected"] and data["rejected"] == []
    words = [*place(catalog), "--sensors", "optical", "--all"]
    _, out, _ = run("search", *words, "--max-cloud", "2", "--pin", "opt", "--json")
    reasons = json.loads(out)["pairs"][0]["reasons"]
    assert any("Pinned by the user: opt, although cloud is 3 %" in reason for reason in reasons)
    _, plain, _ = run("search", *place(catalog), "--json")
    assert list(json.loads(plain)) == ["pairs"]


def test_search_around_a_date_needs_no_dates(run, catalog, fails):
    words = ["--aoi", AOI, "--catalog", catalog]
    _, out, _ = run("search", *words, "--around", "2020-06-04", "--json")
    (pair,) = json.loads(out)["pairs"]
    assert pair["factors"]["A"] < 1
    assert "before 2020-06-04" in pair["reasons"][0]
    assert "2020-06-02" in fails("search", *words, "--around", "2020-06-20", "--json")
    assert "'opr'" in fails("search", *words, "--around", "2020-06-04", "--exclude", "opr")


def test_what_the_user_decided_is_in_the_record(run, catalog, engine, tmp_path):
    words = [*place(catalog), "--pin", "opt", "--out", tmp_path / "out", "--json"]
    assert run("ask", "Segment the water.", *words)[0] == 0
    kept = json.loads((tmp_path / "out" / "record.json").read_text())["search"]
    assert kept["overrides"] == {"pin": ["opt"]}
    assert kept["pin"] == ["opt"]
    assert "Pinned by the user: opt." in kept["pair"]["reasons"]


def test_aoi_files(run, catalog, tmp_path):
    path = tmp_path / "aoi.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [SQUARE]}))
    code, out, _ = run("search", *place(catalog, aoi=path), "--json")
    assert (code, len(json.loads(out)["pairs"])) == (0, 1)


def test_ask_json(run, catalog, engine):
    code, out, _ = run("ask", "Segment the water.", *place(catalog), "--json")
    assert code == 0
    data = json.loads(out)
    assert set(data) == {
        "text", "notice", "detections", "evidence", "pair", "model", "usage", "record",
    }  # fmt: skip
    assert (data["text"], data["notice"]) == ("Sure, the water.", NOTICE)
    assert data["record"] is None
    assert set(data["pair"]) == PAIR_KEYS
    assert data["model"] == {"name": "stand-in", "revision": "a" * 12}
    assert data["detections"]["type"] == "FeatureCollection"
    (feature,) = data["detections"]["features"]
    assert {"label", "score", "area_m2", "source", "observed"} <= set(feature["properties"])
    assert feature["properties"]["area_m2"] == pytest.approx(37_500, rel=2e-3)
    assert {c["verdict"] for c in data["evidence"]} <= {"supported", "contradicted", "uncheckable"}
    assert set(data["usage"]) == {
        "views_encoded", "sam_encodes", "tokens_prefilled", "tokens_new", "seconds",
    }  # fmt: skip


def test_ask_for_people(run, catalog, engine):
    code, out, _ = run("ask", "Segment the water.", *place(catalog))
    assert code == 0
    for part in ("Pair score", "opt", "Sure, the water.", NOTICE, "3.75 ha", "Evidence:", "Record"):
        assert part in out


def test_no_control_character_of_a_model_reaches_the_terminal(run, catalog, engine):
    engine.texts = {"Hello?": "red \x1b[31mwater\x07"}
    _, out, _ = run("ask", "Hello?", *place(catalog))
    assert "\x1b" not in out
    assert "\x07" not in out
    assert json.loads(run("ask", "Hello?", *place(catalog), "--json")[1])["text"].count("\x1b") == 1


def test_ask_writes_everything_and_replay_agrees(run, catalog, engine, tmp_path):
    out_folder = tmp_path / "out"
    words = ["ask", "Segment the water.", *place(catalog), "--out", out_folder, "--json"]
    code, out, _ = run(*words)
    assert code == 0
    names = sorted(file.name for file in out_folder.iterdir())
    assert names == ["answer.geojson", "answer.png", "record.json"]
    record = json.loads(out)["record"]
    assert record == str(out_folder / "record.json")
    assert json.loads((out_folder / "answer.geojson").read_text())["notice"] == NOTICE
    with Image.open(out_folder / "answer.png") as picture:
        assert picture.size[0] > 500
    kept = json.loads((out_folder / "record.json").read_text())
    assert kept["search"]["max_gap"] == "144 hours"
    code, out, _ = run("replay", record, "--model", "stand-in", "--json")
    assert (code, json.loads(out)) == (0, {"same": True, "differences": []})
    # Into a folder that is there: the same names are replaced, others stay.
    (out_folder / "mine.txt").write_text("mine")
    assert run(*words)[0] == 0
    assert (out_folder / "mine.txt").read_text() == "mine"
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_ask_about_a_picture(run, engine, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    words = ["ask", "Segment the water.", "--image", path]
    code, out, _ = run(*words, "--out", tmp_path / "out", "--json")
    data = json.loads(out)
    assert (code, data["pair"], data["detections"]["features"]) == (0, None, [])
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["answer.png", "record.json"]


def test_chip_writes_physical_quantities(run, catalog, tmp_path):
    code, out, _ = run("chip", *place(catalog), "--out", tmp_path / "chip", "--json")
    data = json.loads(out)
    assert code == 0
    assert sorted(data["files"]) == ["chip.png", "optical.tif", "sar.tif"]
    with rasterio.open(tmp_path / "chip" / "optical.tif") as source:
        assert source.descriptions == ("blue", "green", "red", "nir", "swir16")
        assert list(source.shape) == data["grid"]["shape"]
        assert 0 < np.nanmedian(source.read(1)) < 0.2
    with rasterio.open(tmp_path / "chip" / "sar.tif") as source:
        tags = source.tags()
        assert (tags["unit"], tags["licence"]) == ("gamma0 dB", "CC-BY-4.0")
        assert -30 < np.nanmin(source.read(1)) < -15
    code, out, _ = run("chip", *place(catalog))
    assert code == 0
    assert "Grid:" in out


def test_doctor(run, engine, monkeypatch):
    code, out, _ = run("doctor", "--json")
    data = json.loads(out)
    assert (code, data["ok"]) == (0, True)
    assert {"python", "torch", "transformers", "catalog", "model", "home"} <= {
        check["name"] for check in data["checks"]
    }
    assert all(set(check) == {"name", "ok", "detail", "remedy"} for check in data["checks"])
    monkeypatch.setenv("EARTHMIND_HOME", "/dev/null/home")
    code, out, _ = run("doctor", "--json")
    (bad,) = (check for check in json.loads(out)["checks"] if not check["ok"])
    assert (code, bad["name"]) == (1, "home")
    assert bad["remedy"]


def test_doctor_tells_devices_and_whether_the_large_model_would_fit(run, engine, monkeypatch):
    def room(free: float):
        return lambda device: Room(device=device, free=int(free * 1e9), total=32 * 10**9)

    def rows(*words):
        code, out, _ = run("doctor", "--json", *words)
        return code, {check["name"]: check for check in json.loads(out)["checks"]}

    monkeypatch.setenv("EARTHMIND_DEVICE", "cpu")
    monkeypatch.setattr(checks, "room_of", room(24))
    code, found = rows()
    assert code == 0
    assert found["device cpu"]["detail"] == "24.0 of 32.0 GB free, float32 for EarthMind"
    assert found["EarthMind-4B"]["detail"].endswith("24.0 of 32.0 GB free: fits")
    monkeypatch.setattr(checks, "room_of", room(7))
    code, found = rows()
    told = found["EarthMind-4B"]
    assert (code, told["ok"]) == (0, True)  # information, until that model is asked for
    assert "does not fit, 1.5 GB short" in told["detail"]
    assert told["remedy"] == "quantize=8, or a device with 8.6 GB free"
    code, found = rows("--model", "earthmind-4b-multi")
    assert (code, found["earthmind-4b-multi"]["ok"]) == (1, False)
    code, found = rows("--model", "nano")
    assert (code, found["nano"]["ok"]) == (0, True)
    assert "Heaviest moment" in found["nano"]["detail"]
    code, found = rows("--model", "nowhere")
    assert (code, found["nowhere"]["ok"]) == (1, False)
    assert "EarthMind-4B" in found["nowhere"]["remedy"]


def test_what_was_chosen_for_a_large_model_is_told_on_stderr(run, catalog, engine, monkeypatch):
    def load(*_, **__):
        logging.getLogger("earthmind_lab.engine.loading").info("a line about memory")
        return engine

    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", load)
    code, out, err = run("ask", "Hello?", *place(catalog), "--json")
    assert code == 0
    assert json.loads(out)["text"]
    assert err.count("a line about memory") == 1
    assert not logging.getLogger("earthmind_lab.engine").handlers


def test_doctor_asks_catalogs_only_when_told(run, engine, monkeypatch):
    monkeypatch.setattr("earthmind_lab.data.probe.probe", lambda known: f"{known.access}: asked")
    _, out, _ = run("doctor", "--json")
    assert "planetary-computer" not in out
    _, out, _ = run("doctor", "--catalogs", "--json")
    rows = {check["name"]: check["detail"] for check in json.loads(out)["checks"]}
    assert rows["planetary-computer"] == "open: asked"
    assert rows["copernicus"] == "key: asked"
    assert rows["earth-search"] == "requester-pays: asked"


def test_a_search_freezes_to_a_file_that_gives_it_again(run, catalog, tmp_path):
    path = tmp_path / "search.json"
    code, out, _ = run("search", *place(catalog), "--freeze", path, "--json")
    found = json.loads(out)
    assert (code, found["frozen"]) == (0, str(path))
    _, out, _ = run("search", *place(path), "--json")
    assert json.loads(out)["pairs"] == found["pairs"]
    assert run("search", *place(catalog), "--freeze", tmp_path / "no" / "where.json")[0] == 2


def test_what_libraries_print_stays_off_stdout(run, catalog, engine, monkeypatch):
    import earthmind_lab.data.search as module

    original = module.search_pairs

    def chatty(*args, **kwargs):
        sys.stdout.write("downloading...\n")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, "search_pairs", chatty)
    code, out, err = run("search", *place(catalog), "--json")
    assert code == 0
    assert json.loads(out)
    assert "downloading" in err


def test_an_interrupt_is_130(run, monkeypatch, catalog, engine, tmp_path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("earthmind_lab.conversation.show_progress", interrupt)
    code, out, err = run("ask", "Hello?", *place(catalog), "--out", tmp_path / "out")
    assert (code, out) == (130, "")
    assert "stopped" in err
    assert not (tmp_path / "out").exists()


def test_help_names_every_verb(run):
    code, out, _ = run("--help")
    assert code == 0
    for verb in ("search", "chip", "ask", "replay", "doctor"):
        assert verb in out
        assert run(verb, "--help")[0] == 0


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aoi", "says"),
    [
        ("-0.714,38.107,-0.718,38.110", "west > east"),
        ("-0.718,38.110,-0.714,38.107", "south > north"),
        ("179.5,10,-179.5,11", "antimeridian"),
        ("-0.718,38.107,-0.718,38.107", "AOI"),
        ("-10,30,10,50", "20° x 20°"),
        ("-0.718,38.107,0.282,38.110", "1° x 0.003°"),
        ("~no-such-user/x.geojson", "neither"),
        ("x" * 5000, "neither"),
        ("500000,4000000,500100,4000100", "lon/lat"),
        ("1,2,3", "four numbers"),
        ("a,b,c,d", "four numbers"),
        ("nan,38,1,39", "not a number"),
        ("nowhere.geojson", "neither"),
        ("", "AOI"),
    ],
)
@pytest.mark.parametrize("verb", [["search"], ["chip"], ["ask", "Is there water?"]])
def test_bad_aoi(fails, catalog, verb, aoi, says):
    assert says in fails(*verb, *place(catalog, aoi=aoi), "--json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"type": "Polygon", "coordinates": [BOWTIE]}, "crosses itself"),
        ({"type": "Polygon", "coordinates": []}, "empty"),
        ({"type": "FeatureCollection", "features": []}, "no geometry"),
        ({"type": "FeatureCollection", "features": None}, "no list of features"),
        ({"type": "FeatureCollection", "features": [1]}, "no object"),
        ("[" * 100_000, "GeoJSON"),
        ({"type": "Point", "coordinates": [0, 0]}, "no area"),
        ("not json", "GeoJSON"),
    ],
)
def test_bad_aoi_file(fails, catalog, tmp_path, content, says):
    path = tmp_path / "aoi.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert says in fails("search", *place(catalog, aoi=path), "--json")


@pytest.mark.parametrize("dates", ["2020-06-05/2020-06-01", "yesterday", "2020-13-01", "", "//"])
def test_bad_dates(fails, catalog, dates):
    fails("search", *place(catalog, dates=dates), "--json")


@pytest.mark.parametrize(
    "more",
    [
        ["--max-gap", "soon"],
        ["--max-cloud", "101"],
        ["--max-cloud", "nan"],
        ["--sensors", "thermal"],
        ["--purpose", "fun"],
        ["--max-gap", "1 hour"],
        ["--max-cloud", "1"],
        ["--dates", "2019-01-01/2019-01-02"],
        ["--aoi", "10,45,10.02,45.02"],
        ["--catalog", "nowhere.json"],
        ["--nonsense"],
        ["--max-cloud", "much"],
    ],
)
def test_bad_search(fails, catalog, more):
    words = place(catalog) if "--catalog" not in more else place(catalog)[:4]
    fails("search", *words, *more, "--json")


@pytest.mark.parametrize(
    "more", [["--gsd", "0"], ["--gsd", "-3"], ["--gsd", "nan"], ["--pair", "2"]]
)
@pytest.mark.parametrize("verb", [["chip"], ["ask", "Is there water?"]])
def test_bad_chip(fails, catalog, engine, verb, more, tmp_path):
    fails(*verb, *place(catalog), *more, "--out", tmp_path / "out", "--json")


@pytest.mark.parametrize("band", ["red", "vv"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_bad_asset(fails, catalog, engine, tmp_path, band, damage):
    file = tmp_path / "catalog" / f"{band}.tif"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:300])
    assert band in fails("ask", "Hello?", *place(catalog), "--out", tmp_path / "out", "--json")


def test_undeclared_radiometry(fails, tmp_path, engine):
    unknown = {
        "card4l:measurement_type": None, "card4l:measurement_convention": None,
    }  # fmt: skip
    catalog = str(write_catalog(tmp_path / "catalog", **unknown))
    fails("ask", "Hello?", *place(catalog), "--out", tmp_path / "out", "--json")


@pytest.mark.parametrize(
    "model", ["gpt-9", "http://127.0.0.1:9", "weights.bin", "~no-such-user/x", "x" * 5000]
)
def test_unknown_model(fails, catalog, model, tmp_path):
    words = ["ask", "Hello?", *place(catalog), "--model", model]
    fails(*words, "--out", tmp_path / "out", "--json")


def test_pickle_checkpoint(fails, catalog, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    err = fails("ask", "Hello?", *place(catalog), "--model", folder, "--json")
    assert "safetensors" in err


@pytest.mark.parametrize("words", [[], ["paint"], ["ask"], ["replay"], ["search"], ["ask", "Hi?"]])
def test_missing_words(fails, words):
    fails(*words)


@pytest.mark.parametrize("question", ["", "  "])
def test_empty_question(fails, catalog, engine, question):
    fails("ask", question, *place(catalog), "--json")


def test_bad_out(fails, catalog, engine, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "under"):
        fails("ask", "Hello?", *place(catalog), "--out", folder, "--json")


@pytest.mark.parametrize("verb", [["chip"], ["ask", "Hello?"]])
def test_bad_out_is_said_before_anything_is_loaded(fails, catalog, tmp_path, monkeypatch, verb):
    """No engine and no pixel: the folder alone decides."""
    monkeypatch.setattr("earthmind_lab.data.search.search_pairs", None)
    (tmp_path / "taken" / {"chip": "sar.tif", "ask": "record.json"}[verb[0]]).mkdir(parents=True)
    assert "is a folder" in fails(*verb, *place(catalog), "--out", tmp_path / "taken")
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: False)
        for folder in (tmp_path, tmp_path / "new" / "deep"):
            assert "no right to write" in fails(*verb, *place(catalog), "--out", folder)


def test_numbers_that_json_lacks(run, catalog, engine, tmp_path):
    """A model's score may be NaN; JSON and GeoJSON say null."""
    made = engine._made

    def odd(*args):
        reply = made(*args)
        objects = tuple(replace(found, score=float("nan")) for found in reply.objects)
        return replace(reply, objects=objects, usage=Usage(seconds={"decode": float("inf")}))

    engine._made = odd
    words = ["ask", "Segment the water.", *place(catalog), "--out", tmp_path / "out", "--json"]
    code, out, err = run(*words)
    assert code == 0, err
    for text in (out, (tmp_path / "out" / "answer.geojson").read_text()):
        assert "NaN" not in text
        assert "Infinity" not in text
    (feature,) = json.loads(out)["detections"]["features"]
    assert feature["properties"]["score"] is None


def test_a_chip_larger_than_the_model_sees(fails, catalog, engine, tmp_path):
    engine.capabilities = replace(engine.capabilities, max_side_px=20)
    err = fails("ask", "Hello?", *place(catalog), "--out", tmp_path / "out", "--json")
    assert "0.20 x 0.20 km" in err
    assert "20 x 20 px" in err
    found = re.search(r"(\d+) x (\d+) px \(([\d.]+) x ([\d.]+) km\)", err)
    assert [float(side) for side in found.groups()[2:]] == [
        int(side) / 100 for side in found.groups()[:2]
    ]
    assert not engine.prompts


def test_nothing_half_written(fails, catalog, engine, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("earthmind_lab.record.Record.save", full)
    err = fails("ask", "Segment the water.", *place(catalog), "--out", tmp_path / "out", "--json")
    assert "disk full" in err


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("no picture"),
        lambda path: None,
        lambda path: Image.fromarray(np.zeros((9, 9), np.float32)).save(path, format="TIFF"),
    ],
)
def test_bad_picture(fails, engine, tmp_path, make):
    path = tmp_path / "picture.png"
    make(path)
    fails("ask", "What is this?", "--image", path, "--json")


def test_bad_record(fails, tmp_path):
    fails("replay", tmp_path / "none.json", "--json")
    for text in ("{", "{}", '{"question": "", "answer_hash": "", "format": 1}'):
        (tmp_path / "record.json").write_text(text)
        fails("replay", tmp_path / "record.json", "--json")


# --- own files -----------------------------------------------------------------------------------

UNITS = [
    "--optical-scale", "0.0001", "--optical-offset", "-0.05", "--sar-quantity", "gamma0",
    "--sar-scale", "power",
]  # fmt: skip


@pytest.fixture
def own(catalog, tmp_path):
    """Words that name two own files of several bands, made from those of the catalog."""
    words = []
    for option, names in (("--optical", ("blue", "green", "red", "nir")), ("--sar", ("vv", "vh"))):
        with rasterio.open(tmp_path / "catalog" / f"{names[0]}.tif") as first:
            profile = {**first.profile, "count": len(names)}
        path = tmp_path / f"{option[2:]}.tif"
        with rasterio.open(path, "w", **profile) as target:
            for number, name in enumerate(names, start=1):
                with rasterio.open(tmp_path / "catalog" / f"{name}.tif") as source:
                    target.write(source.read(1), number)
        words += [option, path]
    return words


BANDS = ["--bands", "blue,green,red,nir,vv,vh"]


def test_chip_of_own_files(run, catalog, own, tmp_path):
    code, out, err = run("chip", *own, *UNITS, *BANDS, "--out", tmp_path / "chip", "--json")
    assert code == 0, err
    data = json.loads(out)
    assert (data["bands"], data["polarisations"]) == (["blue", "green", "red", "nir"], ["vv", "vh"])
    assert (data["grid"]["shape"], data["gsd"]) == ([64, 64], 10)
    assert data["reads"] == 6
    assert data["radiometry"]["offset_applied"] == -0.05
    assert data["pair"]["optical"] == "optical.tif"
    with rasterio.open(tmp_path / "chip" / "sar.tif") as source:
        assert source.tags()["unit"] == "gamma0 dB"
    _, out, _ = run("chip", *own, *UNITS, *BANDS, "--aoi", AOI, "--gsd", "20", "--json")
    other = json.loads(run("chip", *place(catalog), "--gsd", "20", "--json")[1])
    assert json.loads(out)["grid"] == other["grid"]


def test_ask_about_own_files_and_replay(run, own, engine, tmp_path):
    words = [*own, *UNITS, *BANDS, "--time", "2020-06-01", "--out", tmp_path / "out"]
    code, out, err = run("ask", "Segment the water.", *words, "--json")
    assert code == 0, err
    data = json.loads(out)
    (feature,) = data["detections"]["features"]
    assert feature["properties"]["observed"].startswith("2020-06-01")
    assert set(data["pair"]) == PAIR_KEYS
    code, out, _ = run("replay", data["record"], "--model", "stand-in", "--json")
    assert (code, json.loads(out)) == (0, {"same": True, "differences": []})


def test_times_of_own_files(run, own):
    times = ["--time", "optical=2020-06-01T10:50:00Z", "--time", "sar=2020-06-02T18:00:00Z"]
    _, out, _ = run("chip", *own, *UNITS, *BANDS, *times, "--json")
    assert json.loads(out)["pair"]["gap_hours"] == pytest.approx(31.17)
    _, out, _ = run("chip", *own, *UNITS, *BANDS)
    assert "optical: optical.tif, unknown" in out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([*UNITS], "bands="),
        ([*BANDS], "--optical-scale 0.0001 with --optical-offset -0.1"),
        ([*BANDS, *UNITS[:4]], "--sar-quantity "),
        ([*BANDS, *UNITS, "--time", "soon"], "is no time"),
        ([*BANDS, *UNITS, "--time", "2020", "--time", "2021"], "names neither"),
        ([*BANDS, *UNITS, "--dates", DATES], "--time"),
        ([*BANDS, *UNITS, "--catalog", "sample"], "catalog"),
        ([*BANDS, *UNITS, "--aoi", "10,45,10.02,45.02"], "does not reach"),
        ([*BANDS, *UNITS, "--sar-scale", "decibel"], "decibel"),
    ],
)
@pytest.mark.parametrize("verb", [["chip"], ["ask", "Is there water?"]])
def test_bad_own_files(fails, own, engine, verb, more, says):
    assert says in fails(*verb, *own, *more, "--json")


@pytest.mark.parametrize("words", [[*UNITS], ["--time", "2020-06-01"], [*BANDS]])
def test_declarations_without_a_file(fails, words):
    assert "No file was given" in fails("chip", *words)


def test_a_picture_beside_own_files(fails, own, engine):
    assert "--image" in fails("ask", "Hello?", *own, "--image", "picture.png")


# --- as users run it ----------------------------------------------------------------------------


def test_a_process_keeps_the_contract(tmp_path):
    """Once as users run it: a real process, nothing patched."""
    base = [sys.executable, "-m", "earthmind_lab.cli", "search", "--json", "--dates", DATES]
    catalog = write_catalog(tmp_path / "catalog")
    good = [*base, "--aoi", AOI, "--catalog", str(catalog)]
    done = subprocess.run(good, capture_output=True, text=True, check=True, env=os.environ.copy())
    assert list(json.loads(done.stdout)) == ["pairs"]
    bad = [*base, "--aoi", "1,2,0,3"]
    done = subprocess.run(bad, capture_output=True, text=True, check=False, env=os.environ.copy())
    assert (done.returncode, done.stdout) == (2, "")
    assert "west > east" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_variable_is_in_the_readme():
    """The settings name the variables they read in a table; the README has the same rows."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    read = re.findall(r"^\| ``(EARTHMIND_\w+)``", settings.__doc__, flags=re.M)
    told = re.findall(r"^\| `(EARTHMIND_\w+)` \|", readme, flags=re.M)
    assert len(read) == 7
    assert told == read
