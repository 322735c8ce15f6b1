"""The items of the embedded catalog as plain data, with their files wherever a test serves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.samples import catalog_path

SAMPLES = catalog_path().parent


def sample_items(url: str) -> list[dict[str, Any]]:
    """Every scene's item once; hrefs start with `url`: an address, or the folder itself."""
    items: dict[str, dict[str, Any]] = {}
    for scene in open_catalog("sample").search():
        item = json.loads(json.dumps(scene.items[0]))
        folder = Path(next(iter(scene.assets.values()))).parent.relative_to(SAMPLES).as_posix()
        for asset in item["assets"].values():
            asset["href"] = f"{url}/{folder}/{asset['href'].rpartition('/')[2]}"
        item["links"] = []
        items.setdefault(item["id"], item)
    return list(items.values())


def write_parquet(items: list[dict[str, Any]], path: Path) -> Path:
    """Items as stac-geoparquet.

    A table has one type per column: the one field that is text in some items and a list in
    others becomes a list.
    """
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    items = json.loads(json.dumps(items))
    for item in items:
        source = item["properties"].get("earthmind:source", {})
        if isinstance(source.get("path"), str):
            source["path"] = [source["path"]]
    to_parquet(parse_stac_items_to_arrow(items), path)
    return path
