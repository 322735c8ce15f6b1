"""The page on simulated scenes does what it says."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from earthmind_lab.data.simulate import CLASSES
from earthmind_lab.data.simulate_change import CHANGES
from earthmind_lab.data.simulate_truth import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text(encoding="utf-8")


def test_every_block_runs() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "simulate.md", "exec"), names)
    assert names["dates"].mask.any() and names["dates"].mask.shape == (128, 128)
    assert names["chip"].provenance["simulated"] is True
    assert len(names["scenes"]) == 3
    assert set(names["truth"].counts) == set(KINDS)
    assert np.isfinite(names["scene"].sar).all()


def test_it_names_every_class_and_change() -> None:
    for name in (*CLASSES, *CHANGES):
        assert re.search(rf"\b{name}\b", PAGE), name
