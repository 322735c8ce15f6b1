"""Engines that answer from pixels alone, for tests of scores: right, inverted, constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earthmind_lab.exchange import Found, Options, Reply
from tests.stand_in_engine import StandInEngine


class Sees(StandInEngine):
    """Answers from the pixels it is shown, right or wrong way round.

    Water is what is dark: in VV where SAR is shown and not switched off, else in near infrared.
    """

    def __init__(self, *, inverted: bool = False) -> None:
        super().__init__()
        self.inverted = inverted
        self.capabilities = replace(self.capabilities, classes=("water", "crops"))

    def generate(self, prompt, options=None):
        self.prompts.append(prompt)
        views = [v for v in prompt.views if v.modality != (options or Options()).sensor_off]
        if not views:
            return Reply(text="No.")
        radar = [v for v in views if v.modality == "sar"]
        channel = radar[0].image[..., 0] if radar else views[0].image[..., 1]
        limit = 255 * 8 // 25 if radar else 255 // 5  # -17 dB; a reflectance of 0.08
        water = channel < limit
        mask = water if "water" in prompt.text else ~water
        if prompt.text.startswith("Is there"):
            return Reply(text="Yes." if (mask.mean() >= 0.03) != self.inverted else "No.")
        if prompt.text.startswith("What"):
            return Reply(
                text="Mostly water." if (water.mean() > 0.5) != self.inverted else "Crops."
            )
        logits = np.where(mask != self.inverted, 1.0, -1.0).astype(np.float32)
        return Reply(text="", objects=(Found(label="", score=1.0, mask_logits=logits),))


class Always(Sees):
    """Says one thing and marks everything."""

    def generate(self, prompt, options=None):
        shape_px = prompt.views[0].shape if prompt.views else (1, 1)
        logits = np.ones(shape_px, np.float32)
        text = "Yes." if prompt.text.startswith("Is there") else "Mostly crops."
        return Reply(text=text, objects=(Found(label="", score=1.0, mask_logits=logits),))


class Mumbles(Sees):
    """Says neither yes nor no."""

    def generate(self, prompt, options=None):
        return Reply(text="I can't tell.")
