"""Water on simulated coasts that training never drew, clear and under simulated cloud.

`python scripts/score_coasts.py` prints mean and least IoU of "Segment the water." per choice of
sensors. Simulated truth is exact, and simulated scenes are easier than real ones: this stands
beside the real held-out table, not in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from nano_data import VIEWS, compose

from earthmind_lab.data.simulate import CLASSES, SimulatedScene, simulate_scene
from earthmind_lab.engine import load_engine
from earthmind_lab.exchange import Options, Prompt, View

FIRST_SEED = 900_000
"""Training simulates seeds from 10,000 on."""
COUNT = 20


def coasts() -> Iterator[int]:
    """Seeds of coasts that are neither all land nor all sea."""
    seed = FIRST_SEED
    while True:
        seed += 1
        scene = simulate_scene(seed, cloudy=False)
        if "coast" in scene.biome and 0.1 < (scene.classes == 0).mean() < 0.9:
            yield seed


def views(scene: SimulatedScene) -> tuple[View, ...]:
    """The three views of a pair."""
    bands = dict(zip(scene.bands, scene.optical, strict=True))
    bands |= {"vv": scene.sar[0], "vh": scene.sar[1]}
    return tuple(
        View(
            image=compose(name, bands),
            name=name,
            modality="sar" if name == VIEWS[0] else "optical",
            gsd=scene.gsd,
        )
        for name in VIEWS
    )


def main() -> None:
    """Print the scores."""
    engine, found = load_engine("nano"), defaultdict(list)
    for _, seed in zip(range(COUNT), coasts(), strict=False):
        for cloudy in (False, True):
            scene = simulate_scene(seed, cloudy=cloudy)
            truth, shown = scene.classes == CLASSES.index("water"), views(scene)
            found["a mask of everything"].append(truth.mean())
            for name, some in (("both", shown), ("optical", shown[1:]), ("sar", shown[:1])):
                reply = engine.generate(Prompt(text="Segment the water.", views=some), Options())
                mask = np.zeros_like(truth)
                for item in reply.objects:
                    mask |= item.mask_logits > 0
                score = (mask & truth).sum() / (mask | truth).sum()
                found[f"{name}, {'cloudy' if cloudy else 'clear'}"].append(score)
    for name, scores in found.items():
        print(f"{name}: mean {np.mean(scores):.2f}, least {np.min(scores):.2f}, n={len(scores)}")


if __name__ == "__main__":
    main()
