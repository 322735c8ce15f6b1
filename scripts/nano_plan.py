"""How large each stage of earthmind-nano's training is: in full, and at toy size."""

from __future__ import annotations

import os
from dataclasses import dataclass

SMOKE = "NANO_SMOKE"
"""Set to 1, every stage runs to its end at toy size; what comes out knows nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes; the defaults are the full training, two hours on two cores."""

    scenes: int = 2000
    """Simulated scenes."""
    dates: int = 300
    """Simulated pairs of dates."""
    held: int = 64
    """Of each, kept out of training."""
    vision: int = 800
    """Steps: 23 minutes on one core."""
    masks: int = 1100
    """Steps: 23 minutes on the other core, at the same time."""
    joint: int = 1200
    """Steps: 55 minutes on both."""
    real: tuple[str, ...] = ()
    """Changes to scripts/nano.yaml, which has the sizes of the last stage: 5 minutes on both."""
    batch: int = 12
    """Windows per step of vision; masks take a half, joint two thirds."""
    questions: int = 10
    """Per scene, in joint."""
    check: int = 200
    """Steps of packed questions between two looks at scores."""
    save: float = 600.0
    """Seconds between two checkpoints."""
    places: int | None = None
    """Real scenes of each split; None = all."""
    threads: int = 2
    """Of the stages that run alone."""
    gate: bool = True
    """Whether language waits for vision."""


MINUTES = {"prepare": 2, "vision": 23, "masks": 0, "joint": 55, "real": 5, "export": 1}
"""What the stages of the full training take on two free cores, about; masks lie beside vision."""
FULL = Plan()
TOY = Plan(
    scenes=6, dates=7, held=2, vision=3, masks=3, joint=4, batch=3, questions=3, check=4,
    save=0.0, places=1, threads=1, gate=False,
    real=("steps=3", "batch=2", "packing=3", "saving.every=1"),
)  # fmt: skip


def plan() -> Plan:
    """What the environment asks for."""
    return TOY if os.environ.get(SMOKE) == "1" else FULL
