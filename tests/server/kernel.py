"""A kernel of a notebook: asks nano in the shared server, says what it found, and is gone."""

from __future__ import annotations

import json
import sys

import numpy as np

from earthmind_lab.engine import load_engine
from earthmind_lab.engine.shared import running
from earthmind_lab.exchange import Prompt, View

RNG = np.random.default_rng(7)
VIEWS = tuple(
    View(image=RNG.integers(0, 255, (128, 128, 3), np.uint8), name=name, modality=name)
    for name in ("optical", "sar")
)
PROMPTS = tuple(
    Prompt(text=text, views=VIEWS)
    for text in ("Segment the water.", "Describe the scene.", "Segment the trees.", "Is it land?")
)

if __name__ == "__main__":
    reply = load_engine("nano", shared=True).generate(PROMPTS[int(sys.argv[1])])
    assert "torch" not in sys.modules
    pids = [each.pid for each in running()]
    sys.stdout.write(json.dumps([pids, reply.usage.views_encoded, reply.token_ids]))
