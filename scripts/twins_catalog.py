"""Make a catalog of real clear and cloudy twins, to score a model on: `earthmind evaluate`.

    python scripts/twins_catalog.py SRC OUT
    earthmind evaluate presence --catalog OUT/catalog.json

SRC holds source files with their `manifest.json`, as for `make_samples.py`: of each scene of
SEN12MS-CR a clear and a cloudy L1C picture on the same pixels, and Sentinel-1 of it where there is
any. What is written is of the kind of the embedded catalog, with licences and attribution: linear
power, one file per band, a mask of the clouds. The cloudy picture names its twin in
``earthmind:clear_twin``.

Pixels without a place in the source get one that is made up, on one grid for all pictures of the
scene, in the Gulf of Guinea where there is no land, and each item says so. Patches that the
manifest puts into one group look like parts of one scene: they are one place, as they are no
independent witnesses.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from make_samples import NUMBERS, Builder
from samples_scenes import BANDS_13, CC_BY, DROPPED, GEE, L1C, RED_EDGE, VV_VH, Picture

CLEAR, CLOUDY, SAR = "s2_l1c.tif", "s2_l1c_cloudy.tif", "s1_grd.tif"
YEAR = 2018
SEASONS = {
    "winter": (f"{YEAR - 1}-12-01", f"{YEAR}-02-28"), "spring": (f"{YEAR}-03-01", f"{YEAR}-05-31"),
    "summer": (f"{YEAR}-06-01", f"{YEAR}-08-31"), "fall": (f"{YEAR}-09-01", f"{YEAR}-11-30"),
    "": (f"{YEAR - 1}-12-01", f"{YEAR}-11-30"),
}  # fmt: skip
TIME_NOTE = (
    "The files hold no date: the season is that of the source's name, where it has one, the year "
    "that of SEN12MS-CR. The order of the pictures and the days between them are unknown."
)
MADE_UP = (
    "The position is made up: the source has pixels of 10 m without a place on the map. Only the "
    "pixels are real."
)
ZONE, FIRST, APART, ROW = 32631, (200_000.0, 100_000.0), 60_000.0, 9
"""UTM zone 31N, its west and north for the first scene, metres to the next, scenes in a row."""


class UnknownSource(ValueError):
    """The manifest says something else than what this script can turn into a catalog."""


def twins(manifest: Mapping[str, Mapping[str, Any]]) -> list[Picture]:
    """Every picture of every scene that there is clear and cloudy.

    Args:
        manifest: Path to entry.

    Raises:
        UnknownSource: Another licence, other bands, or another quantity than expected; or no twins.
    """
    folders = sorted(str(Path(path).parent) for path in manifest if path.endswith(f"/{CLOUDY}"))
    folders = [folder for folder in folders if f"{folder}/{CLEAR}" in manifest]
    if not folders:
        raise UnknownSource(f"No folder holds both {CLEAR} and {CLOUDY}.")
    found: list[Picture] = []
    placeless = 0
    for folder in folders:
        held = {name: manifest[f"{folder}/{name}"] for name in (CLEAR, CLOUDY, SAR)
                if f"{folder}/{name}" in manifest}  # fmt: skip
        grids = {json.dumps([each.get("crs"), each.get("transform")]) for each in held.values()}
        if len(grids) > 1:
            raise UnknownSource(f"{folder}: the pictures lie on {len(grids)} grids.")
        made_up = None
        if held[CLEAR].get("crs") is None:
            down, right = divmod(placeless, ROW)
            made_up = (FIRST[0] + APART * right, FIRST[1] + APART * down, ZONE)
            placeless += 1
        found += [_picture(folder, name, entry, made_up) for name, entry in held.items()]
    return found


def _picture(
    folder: str, name: str, entry: Mapping[str, Any], made_up: tuple[float, float, int] | None
) -> Picture:
    bands = VV_VH if name == SAR else BANDS_13
    listed = [band.upper() if name == SAR else NUMBERS[band] for band in bands]
    quantity = "sigma0 dB" if name == SAR else "reflectance*10000"
    path = f"{folder}/{name}"
    for key, wanted, said in (
        ("bands", listed, entry["bands"] == listed),
        ("sensor", quantity, quantity in entry["sensor"]),
        ("licence", CC_BY, CC_BY in entry["licence"]["data"]),
    ):
        if not said:
            raise UnknownSource(f"{path}: {key} is {entry[key]!r}, not {wanted!r}.")
    scene = str(entry["scene"]).removeprefix("sen12mscr_")
    group = re.search(r"scene group (\w+)", entry.get("note", ""))
    first, last = SEASONS[entry["dates"].get("season", "")]
    facts = dict(GEE if name == SAR else L1C) | {"earthmind:datetime_note": TIME_NOTE}
    if made_up:
        facts |= {"earthmind:position": "made up", "description": MADE_UP}
    ids = {
        CLEAR: f"S2_L1C_{scene}_clear", CLOUDY: f"S2_L1C_{scene}_cloudy",
        SAR: f"S1_SIGMA0_{scene}",
    }  # fmt: skip
    if name == CLOUDY:
        facts["earthmind:clear_twin"] = ids[CLEAR]
    return Picture(
        id=ids[name], place=f"group_{group[1]}" if group else scene, file=path, bands=bands,
        collection="sentinel-1-sigma0" if name == SAR else "sentinel-2-l1c",
        time=(f"{first}T00:00:00Z", f"{last}T23:59:59Z"), licence=CC_BY, facts=facts,
        drop=(*DROPPED, *RED_EDGE), made_up=made_up,
        clear=f"{folder}/{CLEAR}" if name == CLOUDY else None,
    )  # fmt: skip


def _readme(items: list[dict[str, Any]]) -> str:
    rows = "\n".join(
        f"| `{each['collection']}/{each['id']}` | {each['properties']['license']} | "
        f"{each['properties'].get('earthmind:position', 'of the source')} | "
        f"{each['properties']['attribution']} |"
        for each in sorted(items, key=lambda each: (each["collection"], each["id"]))
    )
    return f"""# Clear and cloudy twins

Real Sentinel-1 and Sentinel-2 pixels of SEN12MS-CR, written by `scripts/twins_catalog.py`. The data
are not under the licence of the code: each item's folder holds a `LICENSE.txt`.

{MADE_UP} That is so where "position" says `made up`. {TIME_NOTE}

| folder | licence | position | attribution |
|---|---|---|---|
{rows}
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the catalog; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the source files and manifest.json")
    parser.add_argument("out", type=Path, help="folder of the catalog; must not be there yet")
    given = parser.parse_args(arguments)
    if given.out.exists():
        parser.error(f"{given.out} is there already")
    building = given.out.with_name(f"{given.out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    builder = Builder(given.source, building)
    found = twins(builder.manifest)
    for picture in found:
        builder.add(picture)
    builder.link(
        id="earthmind-twins", title="Clear and cloudy twins",
        description="Real pixels of SEN12MS-CR, clear and cloudy, with Sentinel-1; see README.md.",
    )  # fmt: skip
    (building / "README.md").write_text(_readme(builder.items), encoding="utf-8")
    building.rename(given.out)
    scenes = sum(picture.file.endswith(CLOUDY) for picture in found)
    radar = sum(picture.file.endswith(SAR) for picture in found)
    sys.stderr.write(f"{scenes} twins, {radar} with SAR: {given.out / 'catalog.json'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
