"""Bundles: a whole analysis in one file, read with no network, and refused when it was altered."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import warnings
import zipfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import earthmind_lab as em
from earthmind_lab import cli
from earthmind_lab.aoi import AOI
from earthmind_lab.conversation import ask
from earthmind_lab.data import bundle_zip
from earthmind_lab.data.bundle import open_bundle, save_bundle
from earthmind_lab.data.catalogs import read_static
from earthmind_lab.data.files import Reader
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import AssetUnavailable, LoadError
from earthmind_lab.recording import pixel_hash
from earthmind_lab.replay import replay
from tests.data.test_cache import equal
from tests.range_server import serve
from tests.stac_server import serve_stac
from tests.stand_in_engine import StandInEngine, square
from tests.tiny_catalog import AOI as PLACE
from tests.tiny_catalog import DATES, write_catalog

QUESTION = "Segment the water."
AREA = AOI.from_any(PLACE)


def engine():
    return StandInEngine({"water": lambda shape: square(shape, (5, 20, 5, 30))})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_catalog(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def chip(catalog):
    pair = search_pairs(AREA, DATES, catalog=str(catalog))[0]
    return load_chip(pair, AREA, cache=False)


@pytest.fixture(scope="module")
def whole(chip, tmp_path_factory):
    """A bundle of two chips and a record."""
    record = ask(chip, QUESTION, engine=engine()).record
    alone = load_chip(replace(chip.pair, optical=None), AREA, gsd=20, cache=False)
    path = tmp_path_factory.mktemp("bundle") / "whole.zip"
    return save_bundle([chip, alone], path, records=[record])


@pytest.fixture
def nothing_opens(monkeypatch):
    """No asset and no catalog can be opened."""

    def refuse(*_args, **_more):
        raise AssertionError("something was opened")

    monkeypatch.setattr(Reader, "open", refuse)
    monkeypatch.setattr("earthmind_lab.data.catalogs.open_catalog", refuse)


# --- there and back ------------------------------------------------------------------------------


def test_one_chip_is_a_bundle_of_one(chip, tmp_path):
    (kept,) = open_bundle(save_bundle(chip, tmp_path / "one.zip")).chips
    assert equal(kept, chip)
    assert repr(open_bundle(tmp_path / "one.zip")) == f"Bundle({kept!r}; 0 records)"


def test_what_comes_out_is_what_went_in(chip, whole, nothing_opens):
    bundle = open_bundle(whole)
    first, second = bundle.chips
    assert equal(first, chip)
    assert pixel_hash(first) == pixel_hash(chip)
    assert first.aoi.name == chip.aoi.name
    assert first.aoi.geometry.equals_exact(chip.aoi.geometry)
    assert (second.optical, second.pair.optical, second.gsd) == (None, None, 20.0)
    assert bundle.licences == ("CC-BY-4.0",)
    assert bundle.attribution == ("us",)


def test_a_pair_keeps_its_scenes_and_reasons(chip, whole):
    pair = open_bundle(whole).chips[0].pair
    for name in ("gap", "overlap", "cloud_in_aoi", "score", "factors", "reasons", "catalog"):
        assert getattr(pair, name) == getattr(chip.pair, name), name
    for one, other in zip(pair.scenes, chip.pair.scenes, strict=True):
        kept = ("id", "sensor", "modality", "datetime", "start", "end", "footprint", "cloud_cover",
                "orbit", "processing", "collection")  # fmt: skip
        assert all(getattr(one, name) == getattr(other, name) for name in kept)
        assert one.items[0]["properties"] == other.items[0]["properties"]


def test_the_same_question_gives_the_same_answer(chip, whole, nothing_opens):
    here = ask(open_bundle(whole).chips[0], QUESTION, engine=engine()).record
    there = open_bundle(whole).records[0]
    assert here.answer_hash == there.answer_hash
    assert here.prompt["views"] == there.prompt["views"]
    assert here.chip == there.chip


def test_a_record_replays_from_the_bundle(whole, nothing_opens):
    bundle = open_bundle(whole)
    again = replay(bundle.records[0], engine=engine(), chips=bundle.chips)
    assert (again.same, again.differences) == (True, ())


def test_the_wrong_chip_is_not_taken(whole, chip):
    """Another chip of the same scenes is at hand: the catalog is asked after all."""
    bundle = open_bundle(whole)
    changed = replace(bundle.chips[0], optical=bundle.chips[0].optical + 1)
    again = replay(bundle.records[0], engine=engine(), chips=[changed, bundle.chips[1]])
    assert (again.same, again.differences) == (True, ())
    assert np.array_equal(again.answer.grid.affine, chip.grid.affine)


def test_the_items_are_a_static_catalog(whole, chip, tmp_path):
    with zipfile.ZipFile(whole) as archive:
        (tmp_path / "items.json").write_bytes(archive.read("items.json"))
    scenes = read_static(tmp_path / "items.json").scenes
    assert {scene.id for scene in scenes} == {scene.id for scene in chip.pair.scenes}


def test_the_public_names(whole):
    assert em.open_bundle(whole).chips[0].bands
    assert em.save_bundle is save_bundle


# --- what must not get in or out -----------------------------------------------------------------


def test_no_signature_gets_in(chip, tmp_path):
    """Addresses that somebody signed by hand, at every place where one can stand."""
    url = "https://me:SECRET@example.org/red.tif?sig=SECRET&se=2030#SECRET"
    scene = chip.pair.optical
    item = {
        **scene.items[0],
        "links": [{"rel": "self", "href": url}],
        "assets": {"red": {"href": url, "alternate": {"s3": {"href": url.upper()}}}},
    }
    scene = replace(scene, assets={**scene.assets, "red": url}, items=(item,))
    inputs = [{**facts, "href": url} for facts in chip.provenance["inputs"]]
    signed = replace(
        chip,
        pair=replace(chip.pair, optical=scene),
        provenance={**chip.provenance, "inputs": inputs},
    )
    record = ask(signed, QUESTION, engine=engine()).record
    record = replace(record, search={**record.search, "catalog": [url]})
    path = save_bundle([signed], tmp_path / "b.zip", records=[record])
    with zipfile.ZipFile(path) as archive:
        texts = [archive.read(name) for name in archive.namelist()]
    assert b"https://example.org/red.tif" in b"".join(texts)
    assert not any(b"SECRET" in text or b"sig=" in text for text in texts)


def test_a_scene_of_a_bundle_opens_no_file_here(chip, whole):
    """Its local paths belong to the machine that wrote it; whoever wrote it chose them."""
    foreign = open_bundle(whole).chips[0].pair
    paths = [href for scene in foreign.scenes for href in scene.assets.values()]
    paths += [a["href"] for s in foreign.scenes for i in s.items for a in i["assets"].values()]
    assert paths and all(path.startswith("bundle:") for path in paths)
    assert all(Path(path).is_file() for path in chip.pair.optical.assets.values())
    with pytest.raises(AssetUnavailable, match="can't be read from"):
        load_chip(foreign, AREA)


def test_a_remote_address_stays(chip, tmp_path):
    there = {band: f"https://example.org/{band}.tif" for band in chip.pair.optical.assets}
    pair = replace(chip.pair, optical=replace(chip.pair.optical, assets=there))
    path = save_bundle([replace(chip, pair=pair)], tmp_path / "b.zip")
    assert open_bundle(path).chips[0].pair.optical.assets == there


def test_opening_writes_nothing(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "1GB")
    monkeypatch.chdir(tmp_path)
    open_bundle(whole)
    assert list(tmp_path.iterdir()) == []


def test_writing_is_whole_or_not(chip, whole, tmp_path, monkeypatch):
    path = tmp_path / "b.zip"
    path.write_bytes(b"old")

    def broken(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bundle_zip._Summed, "write", broken)
        with pytest.raises(LoadError, match="No space left"):
            save_bundle([chip], path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("b.zip", b"old")]
    with pytest.raises(LoadError, match="can't be written"):
        save_bundle([chip], path / "b.zip")
    with pytest.raises(LoadError, match="at least one"):
        save_bundle([], path)
    assert save_bundle([chip], path) == path
    assert len(open_bundle(path).chips) == 1


# --- hostile and damaged zips --------------------------------------------------------------------


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, held, extra=(), **more):
    """A zip of members; extra ones as (ZipInfo or name, bytes) after them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*held.items(), *extra):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of two members with one name
                archive.writestr(name, data, **more)
    return path


def stated(held):
    """With a manifest that is right for these members: somebody who forges does that much."""
    manifest = json.loads(held["manifest.json"])
    manifest["members"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in held.items() if name != "manifest.json"
    }  # fmt: skip
    return {**held, "manifest.json": json.dumps(manifest).encode()}


def resealed(data, change):
    """A JSON member, changed and sealed again."""
    from earthmind_lab.data.chip_files import unsealed

    body = json.dumps(change(unsealed(data, ""))).encode()
    seal = hashlib.sha256(body).hexdigest().encode()
    return b'{"sha256": "%s", "data": %s}' % (seal, body)


def link(name):
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def huge(about):
    about["grid"]["shape"] = [10**6, 10**6]
    for facts in about["arrays"].values():
        facts["shape"] = [*facts["shape"][:-2], 10**6, 10**6]
    return about


def objects(about):
    about["arrays"]["optical"]["dtype"] = "object"
    return about


def about(change):
    name = "chips/1/chip.json"
    return lambda held: {**held, name: resealed(held[name], change)}


def scenes(change):
    name = "chips/1/pair.json"
    return lambda held: {**held, name: resealed(held[name], change)}


FORGED = {
    "path out of the folder": lambda held: {**held, "../../evil.json": b"{}"},
    "absolute path": lambda held: {**held, "/tmp/evil.json": b"{}"},
    "path inside": lambda held: {**held, "chips/../../x.json": b"{}"},
    "backslash": lambda held: {**held, "chips\\1\\x.json": b"{}"},
    "unknown name": lambda held: {**held, "run.py": b"print()"},
    "other number": lambda held: {**held, "chips/7/chip.json": b"{}"},
    "no chip.json": lambda held: {k: v for k, v in held.items() if k != "chips/1/chip.json"},
    "no array": lambda held: {k: v for k, v in held.items() if k != "chips/1/optical.npy"},
    "no items": lambda held: {k: v for k, v in held.items() if k != "items.json"},
    "pickled array": lambda held: {**held, "chips/1/optical.npy": pickled()},
    "another array": lambda held: {**held, "chips/1/sar.npy": held["chips/1/optical.npy"]},
    "array of objects": about(objects),
    "huge shape": about(huge),
    "format": about(lambda data: {**data, "format": 2}),
    "unknown field": about(lambda data: {**data, "fields": {**data["fields"], "x": 1}}),
    "field of a method": about(lambda data: {**data, "fields": {"gsd": 1}}),
    "no CRS": about(lambda data: {**data, "grid": {**data["grid"], "crs": "nonsense"}}),
    "list for a mapping": about(lambda _: []),
    "AOI around the world": scenes(lambda d: {**d, "aoi": {"name": "x", "geometry": {
        "type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, -90]]]}}}),
    "no scene": scenes(lambda d: {**d, "pair": {**d["pair"], "optical": None, "sar": None}}),
    "outline": scenes(lambda d: {**d, "pair": {**d["pair"], "sar": {"footprint": "00"}}}),
    "deep nest": lambda held: {**held, "records/1.json": b"[" * 100_000 + b"]" * 100_000},
    "record of nothing": lambda held: {**held, "records/1.json": b"{}"},
}  # fmt: skip


def pickled():
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_bundle_is_refused(whole, tmp_path, how, monkeypatch):
    """Sums and sizes are right; what they are of is not."""
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in" / "b.zip", stated(FORGED[how](members(whole))))
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(AssetUnavailable, match="bundle"):
        open_bundle(path)
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*.*")] == [Path("in/b.zip")]
    assert not Path("/tmp/evil.json").exists()


def test_a_right_forgery_is_a_bundle(whole, tmp_path, chip):
    """The cases above fail for their reason, not for the way they are packed."""
    path = packed(tmp_path / "b.zip", stated(members(whole)))
    assert equal(open_bundle(path).chips[0], chip)


def test_sizes_and_sums_must_be_as_stated(whole, tmp_path):
    held = members(whole)
    for change in (
        {"chips/1/optical.npy": held["chips/1/optical.npy"][:-1] + b"x"},
        {"chips/1/optical.npy": held["chips/1/optical.npy"] + b"x"},
        {"items.json": held["items.json"].replace(b"sar", b"raz")},
        {"records/1.json": held["records/1.json"].replace(b"water", b"wader")},
        {
            "manifest.json": held["manifest.json"].replace(
                b'"members": {', b'"members": {"chips/1/more.npy": {"bytes": 0, "sha256": ""},'
            )
        },
        {"manifest.json": b"{}"},
        {"manifest.json": b"[]"},
        {"manifest.json": b"no json"},
    ):
        with pytest.raises(AssetUnavailable, match="bundle"):
            open_bundle(packed(tmp_path / "b.zip", {**held, **change}))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("items.json", {}),  # twice
        (link("chips/1/link.npy"), {}),
        ("chips/", {}),
        ("records/2.json", {"compress_type": zipfile.ZIP_BZIP2}),
    ],
    ids=["twice", "link", "folder", "method"],
)
def test_members_that_no_bundle_has(whole, tmp_path, name, more):
    held = members(whole)
    text = str(getattr(name, "filename", name))
    same = {"records/2.json": held["records/1.json"], "items.json": held["items.json"]}
    data = same.get(text, b"")
    with_it = stated({**held, text: data})
    path = tmp_path / "b.zip"
    del with_it[text]
    if text == "items.json":
        with_it = {**held}
    packed(path, with_it)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr(name, data, **more)
    with pytest.raises(AssetUnavailable, match="bundle"):
        open_bundle(path)


def test_a_bomb_is_not_unpacked(whole, tmp_path, monkeypatch):
    """A member larger than the limit is refused by its entry, one that lies by its first byte."""
    held = stated({**members(whole), "chips/1/bomb.npy": bytes(3_000_000)})
    path = packed(tmp_path / "b.zip", held)
    assert path.stat().st_size < 500_000
    monkeypatch.setattr(bundle_zip, "MAX_BYTES", 2_000_000)
    with pytest.raises(AssetUnavailable, match="more than 2000000 bytes"):
        open_bundle(path)
    monkeypatch.undo()
    lying = tmp_path / "lying.zip"
    data = path.read_bytes()
    lying.write_bytes(data.replace((3_000_000).to_bytes(4, "little"), (30).to_bytes(4, "little")))
    with pytest.raises(AssetUnavailable, match="not as stated"):
        open_bundle(lying)
    sizes = json.loads(held["manifest.json"])
    sizes["members"]["chips/1/bomb.npy"]["bytes"] = 30
    packed(path, {**held, "manifest.json": json.dumps(sizes).encode()})
    with pytest.raises(AssetUnavailable, match="not as stated"):
        open_bundle(path)


def test_a_large_json_is_refused(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_zip, "MAX_JSON", 1_000)
    with pytest.raises(AssetUnavailable, match="at most 1000"):
        open_bundle(whole)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1, -22, -300])
def test_a_cut_file_is_no_bundle(whole, tmp_path, keep):
    path = tmp_path / "b.zip"
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(AssetUnavailable, match=r"b\.zip"):
        open_bundle(path)


def test_no_flipped_byte_passes(whole, chip, tmp_path):
    """Sixty places in the file: refused, or in a part that says nothing."""
    data, path = whole.read_bytes(), tmp_path / "b.zip"
    refused = 0
    for at in np.random.default_rng(3).integers(0, len(data), 60):
        changed = bytearray(data)
        changed[at] ^= 4
        path.write_bytes(changed)
        try:
            assert equal(open_bundle(path).chips[0], chip)
        except AssetUnavailable:
            refused += 1
    assert refused > 50


def test_what_is_no_bundle(tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    for path in (tmp_path / "none.zip", tmp_path, tmp_path / "text.zip"):
        with pytest.raises(AssetUnavailable, match="no bundle"):
            open_bundle(path)


# --- replay with no network ----------------------------------------------------------------------


@pytest.fixture
def world(catalog, monkeypatch, tmp_path):
    """The scenes behind an API, their files behind a server, an empty cache; both can be closed."""
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "1GB")
    monkeypatch.setattr("earthmind_lab.data.web.PAUSE_S", 0.01)
    files, api = ExitStack(), ExitStack()
    server = files.enter_context(serve(catalog.parent))
    items = []
    for name, collection in (("opt", "sentinel-2-l2a"), ("sar", "sentinel-1-rtc")):
        item = json.loads((catalog.parent / f"{name}.json").read_text())
        for band, asset in item["assets"].items():
            asset["href"] = f"{server.url}/{band}.tif"
        items.append({**item, "collection": collection})
    stac = api.enter_context(serve_stac(items))
    monkeypatch.setenv("EARTHMIND_HOSTS", f"{server.place},{stac.place}")
    with files, api:
        yield stac.url, files, api


def test_a_record_replays_with_no_server(world):
    """First the files' server goes, then the catalog's: the kept chip stands in, and it is said."""
    url, files, api = world
    pair = search_pairs(AREA, DATES, catalog=url)[0]
    for area in (AREA, AOI.from_bbox(*AREA.bounds[:2], AREA.bounds[2] - 1e-3, AREA.bounds[3])):
        record = ask(load_chip(pair, area), QUESTION, engine=engine()).record
    files.close()
    again = replay(record, engine=engine())
    assert (again.same, again.differences) == (True, ())
    api.close()
    again = replay(record, engine=engine())
    assert again.same
    (line,) = again.differences
    assert line.startswith("catalog: ") and line.endswith("The chip is the one kept on disk.")
    changed = replace(record, chip={**record.chip, "pixel_hash": "0" * 64})
    assert not replay(changed, engine=engine()).same


def test_a_file_of_this_machine_that_is_gone_is_a_broken_link(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "1GB")
    catalog = write_catalog(tmp_path / "catalog")
    pair = search_pairs(AREA, DATES, catalog=str(catalog))[0]
    record = ask(load_chip(pair, AREA), QUESTION, engine=engine()).record
    (catalog.parent / "red.tif").unlink()
    again = replay(record, engine=engine())
    assert not again.same
    assert again.differences[0].startswith("files: ")


# --- on the command line -------------------------------------------------------------------------


def run(capsys, *words):
    code = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_commands(catalog, tmp_path, capsys, monkeypatch):
    double = engine()
    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", lambda *_, **__: double)
    place = ("--aoi", PLACE, "--dates", DATES, "--catalog", catalog)
    file, out = tmp_path / "b.zip", tmp_path / "out"
    code, text, _ = run(capsys, "chip", *place, "--bundle", file, "--json")
    assert code == 0
    assert json.loads(text)["files"] == {"bundle": str(file)}
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "open", lambda *_: pytest.fail("an asset was opened"))
        patch.setattr("earthmind_lab.data.catalogs.open_catalog", lambda *_: pytest.fail("asked"))
        code, text, _ = run(capsys, "ask", QUESTION, "--bundle", file, "--out", out, "--json")
        assert code == 0
        said = json.loads(text)
        assert said["pair"]["optical"] == "opt"
        assert said["detections"]["features"]
        words = ("replay", out / "record.json", "--bundle", file, "--json", "--model", "x")
        code, text, _ = run(capsys, *words)
    assert json.loads(text) == {"same": True, "differences": []}
    for more in (("--pair", 2), ("--aoi", PLACE), ("--image", "a.png")):
        code, text, err = run(capsys, "ask", QUESTION, "--bundle", file, *more)
        assert (code, text) == (2, "") and err
    with monkeypatch.context() as patch:  # refused before anything is searched or loaded
        patch.setattr(
            "earthmind_lab.data.search.search_pairs", lambda *_, **__: pytest.fail("searched")
        )
        code, text, err = run(capsys, "chip", *place, "--bundle", file / "x" / "b.zip")
    assert (code, text) == (2, "") and "b.zip" in err
