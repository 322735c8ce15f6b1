"""A checkpoint folder that says what it holds and holds nothing: headers without weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tests.benchmarks.full_size import listed


def write(folder: Path, *, shards: int = 2) -> Path:
    """The published 4B checkpoint as sparse files of its full length, which take no room."""
    spec: dict[str, Any] = listed()
    keys = list(spec["keys"].items())
    weight_map = {}
    folder.mkdir(parents=True)
    for number in range(shards):
        name, header, end = f"model-{number + 1}.safetensors", {}, 0
        for key, about in keys[number::shards]:
            start, end = end, end + 2 * math.prod(about["shape"])
            header[key] = {"dtype": "BF16", "shape": about["shape"], "data_offsets": [start, end]}
            weight_map[key] = name
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.truncate(8 + len(text) + end)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({**spec["config"], "model_type": "sa2va_chat"}))
    (folder / "tokenizer.json").write_text("{}")
    return folder
