"""Tiny data sets, written to a folder by code."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(path: Path, side: tuple[int, int] = (20, 30), seed: int = 0) -> Path:
    """A picture of noise, (H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*side, 3), dtype=np.uint8)).save(path)
    return path


def write(path: Path, data: Any) -> Path:
    """JSON, or JSON Lines where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(each) + "\n" for each in data))
    else:
        path.write_text(json.dumps(data))
    return path


def talk(*words: str, **more: Any) -> dict[str, Any]:
    """An entry of LLaVA: questions and answers in turn."""
    said = [{"from": ("human", "gpt")[n % 2], "value": word} for n, word in enumerate(words)]
    return {"conversations": said, **more}


def square(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    """A COCO polygon."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def packed(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths of a mask (H, W), packed as COCO does, written from its description."""
    counts = runs(mask)["counts"]
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 * more) + 48)
    return {"size": list(mask.shape), "counts": text}


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths of a mask (H, W), as numbers."""
    flat = mask.T.ravel().astype(int)
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    counts = [b - a for a, b in pairwise(ends)]
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + counts}


def refer(folder: Path) -> Path:
    """Two pictures, three objects, an index as JSON."""
    for name in ("1.jpg", "2.jpg"):
        picture(folder / "images" / name)
    sizes = {"height": 20, "width": 30}
    instances = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "license": 4, **sizes} for n in (1, 2)],
        "annotations": [
            {"id": 10, "image_id": 1, "segmentation": square(2, 2, 12, 10)},
            {"id": 11, "image_id": 1, "segmentation": square(20, 2, 28, 8)},
            {"id": 12, "image_id": 2, "segmentation": square(0, 0, 5, 5)},
        ],
        "licenses": [{"id": 4, "name": "CC-BY-4.0"}],
    }
    write(folder / "instances.json", instances)
    write(folder / "refs.json", REFS)
    return folder


REFS = [
    {
        "ref_id": 7, "ann_id": 10, "image_id": 1, "split": "train",
        "sentences": [{"raw": "the ship on the left."}, {"raw": "a ship"}],
    },
    {
        "ref_id": 8, "ann_id": [10, 11], "image_id": 1, "split": "train",
        "sentences": [{"raw": "both ships"}],
    },
    {
        "ref_id": 9, "ann_id": 12, "image_id": 2, "split": "val",
        "sentences": [{"raw": "the harbour"}],
    },
]  # fmt: skip
