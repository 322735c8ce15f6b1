"""scripts/twins_catalog.py: pixels with and without a place become a catalog that can be scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from earthmind_lab.evaluate.asking import SAR_OFF
from earthmind_lab.evaluate.ground import look
from earthmind_lab.evaluate.landcover import Cover, evaluate_landcover
from earthmind_lab.evaluate.walk import walk
from earthmind_lab.grid import placeless
from tests.seeing_engine import Sees
from tests.world_catalog import SIDE, lake

BANDS = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12".split()
LAND = dict(zip(BANDS, (900, 800, 900, 700, 900, 2000, 2500, 3000, 3100, 900, 12, 1800, 900),
                strict=True))  # fmt: skip
SEA = {**dict.fromkeys(BANDS, 150), "B02": 700, "B03": 800, "B04": 500, "B10": 12}
POND, CLOUD, ROOF = lake((8, 40), (8, 40)), lake((0, SIDE), (0, 34)), lake((50, 60), (50, 60))
PLACE = Affine(10, 0, 466_426.679, 0, -10, 4_606_989.291)


@pytest.fixture(scope="module")
def script():
    """The script as a module; it imports its neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
        import twins_catalog

        yield twins_catalog


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two patches of one group without a place and with SAR, and one with a place and without."""
    folder = tmp_path_factory.mktemp("source")
    files = []
    for number, scene in enumerate(("test1", "test2", "ROIs_101")):
        placed = scene.startswith("ROIs")
        rng = np.random.default_rng(number)
        kinds = ("s2_l1c", "s2_l1c_cloudy", *(() if placed else ("s1_grd",)))
        for kind in kinds:
            ground = np.stack([np.where(POND, SEA[b], LAND[b]) for b in BANDS])
            ground[:, ROOF] = 3200  # as bright as a cloud, on both pictures
            if kind.endswith("cloudy"):
                ground[:, CLOUD] = 6000
                ground[BANDS.index("B10")] = 12
            values = (ground + rng.integers(0, 9, ground.shape)).astype(np.uint16)
            sensor, bands = "Sentinel-2 L1C, reflectance*10000", BANDS
            if kind == "s1_grd":
                decibel = np.stack([np.where(POND, -22.0, -9.0), np.where(POND, -28.0, -15.0)])
                values = (decibel + rng.normal(0, 0.3, decibel.shape)).astype(np.float32)
                sensor, bands = "Sentinel-1 IW GRD sigma0 dB", ["VV", "VH"]
            path = folder / scene / f"{kind}.tif"
            path.parent.mkdir(exist_ok=True)
            place = {"crs": "EPSG:32616", "transform": PLACE} if placed else {}
            with placeless(), rasterio.open(
                path, "w", driver="GTiff", dtype=values.dtype.name, count=len(values),
                height=SIDE, width=SIDE, **place,
            ) as target:  # fmt: skip
                target.write(values)
            files.append({
                "path": f"{scene}/{kind}.tif", "scene": f"sen12mscr_{scene}", "sensor": sensor,
                "bands": list(bands), "dates": {"season": "summer"} if placed else {"note": "?"},
                "crs": place.get("crs"), "transform": list(PLACE)[:6] if placed else None,
                "licence": {"data": "open access, CC-BY-4.0"}, "attribution": "Ebel et al. 2021",
                "modifications": "none", "sha256": "0" * 64,
                "source": {"repository": "a/b", "commit": "c", "path": "d"},
                "note": "none" if placed else "scene group Q (patches of one group look alike)",
            })  # fmt: skip
    manifest = {"created": "2026-01-01", "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def catalog(script, source, tmp_path_factory):
    out = tmp_path_factory.mktemp("twins") / "catalog"
    assert script.main([str(source), str(out)]) == 0
    return out


def items(catalog):
    found = [json.loads(p.read_text()) for p in catalog.rglob("*.json")]
    return {each["id"]: each for each in found if each["type"] == "Feature"}


def test_what_is_made_up_is_said_and_what_is_real_is_kept(catalog, source):
    held = items(catalog)
    assert len(held) == 8
    for name, item in held.items():
        said = item["properties"]
        made_up = "test" in name
        assert said["license"] == "CC-BY-4.0" and said["attribution"] == "Ebel et al. 2021"
        assert (said.get("earthmind:position") == "made up") == made_up
        assert ("Only the pixels are real" in said.get("description", "")) == made_up
        assert said["earthmind:place"] == ("group_Q" if made_up else "ROIs_101")
        grids = {json.dumps(held[n]["properties"]["proj:transform"]) for n in held
                 if n.split("_")[2:3] == name.split("_")[2:3]}  # fmt: skip
        assert len(grids) == 1
    radar = held["S1_SIGMA0_test1"]
    (folder,) = catalog.rglob("S1_SIGMA0_test1")
    with rasterio.open(folder / "vv.tif") as ours, placeless():
        power = ours.read(1)
        with rasterio.open(source / "test1" / "s1_grd.tif") as theirs:
            np.testing.assert_allclose(10 * np.log10(power), theirs.read(1), atol=1e-3)
    assert radar["properties"]["card4l:measurement_type"] == "sigma0"
    placed = held["S2_L1C_ROIs_101_clear"]["properties"]
    assert placed["proj:epsg"] == 32616 and placed["start_datetime"] == "2018-06-01T00:00:00Z"


def test_clouds_are_what_is_brighter_than_on_the_twin(catalog):
    (path,) = catalog.rglob("S2_L1C_test1_cloudy/cloud_mask.tif")
    with rasterio.open(path) as file:
        cloud = file.read(1)
    inner = np.zeros_like(CLOUD)
    inner[2:-2, 2:32] = True
    assert (cloud[inner] == 1).all() and not cloud[ROOF].any()
    assert not np.isin(cloud[:, 40:], (1, 2)).any()


def test_the_catalog_can_be_scored(catalog):
    sites = {site.name: site for site in walk(catalog / "catalog.json")}
    assert len(sites) == 6
    assert sites["S2_L1C_test2_cloudy"].clear.id == "S2_L1C_test2_clear"
    assert sites["S2_L1C_test2_cloudy"].pair.sar.id == "S1_SIGMA0_test2"
    assert {site.place for site in sites.values()} == {"group_Q", "ROIs_101"}
    assert look(sites["S2_L1C_ROIs_101_cloudy"]).twin
    table = evaluate_landcover(Sees(), catalog / "catalog.json", places=["group_Q"])
    rows = [r for r in table.rows if isinstance(r, Cover) and r.twin and r.label == "water"]
    iou = {s: np.mean([r.iou for r in rows if r.sensors == s]) for s in ("both", SAR_OFF)}
    assert len(rows) == 8 and iou["both"] > 0.9 > 0.5 > iou[SAR_OFF]


def test_another_licence_or_quantity_is_refused(script, source, tmp_path):
    manifest = json.loads((source / "manifest.json").read_text())
    entries = {entry["path"]: entry for entry in manifest["files"]}
    assert len(script.twins(entries)) == 8
    for change in ({"licence": {"data": "ask"}}, {"sensor": "Sentinel-1 amplitude"}):
        wrong = entries | {"test1/s1_grd.tif": entries["test1/s1_grd.tif"] | change}
        with pytest.raises(script.UnknownSource, match=next(iter(change))):
            script.twins(wrong)
    with pytest.raises(script.UnknownSource, match="No folder"):
        script.twins({})
    with pytest.raises(SystemExit):
        script.main([str(source), str(tmp_path)])
