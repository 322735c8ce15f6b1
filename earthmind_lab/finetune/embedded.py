"""Questions about scenes of the embedded catalog that earthmind-nano never trained on.

A guard set that is always there: what a model could say of water, trees, crops and towns before it
learned something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from earthmind_lab.chip import Chip
from earthmind_lab.evaluate.scenes import CASES, Case, load_case
from earthmind_lab.evaluate.truth import CLASSES, PixelTruth
from earthmind_lab.finetune.labelled import labelled_chips
from earthmind_lab.finetune.source import Source

NAMES = {"built": "built-up areas", "bare": "bare ground"}
"""What questions call the classes of `evaluate.truth`, where it differs."""


def embedded_examples(
    *, split: str = "test", composites: Sequence[str] = (), seed: int = 0
) -> Source:
    """Questions about whole scenes of the embedded catalog, decided by their maps and indices.

    Args:
        split: Of `evaluate.scenes.CASES`: ``train`` or ``test``; by default what earthmind-nano
            learned nothing from.
        composites: What the model is shown (`Capabilities.composites`).
        seed: Of phrasings.
    """
    cases = [case for case in CASES if case.split == split]
    labels = _Truth()
    return labelled_chips(
        [partial(_load, case, labels) for case in cases], labels, composites=composites, seed=seed
    )


@dataclass(frozen=True, eq=False)
class _Truth:
    """Labels that come with the scene: `load_case` gives both at once."""

    held: dict[int, PixelTruth] = field(default_factory=dict)
    """Of the chip opened last."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(NAMES.get(name, name) for name in CLASSES)

    def truth(self, chip: Chip) -> PixelTruth:
        return self.held[id(chip)]


def _load(case: Case, labels: _Truth) -> Chip:
    known = load_case(case)
    labels.held.clear()
    labels.held[id(known.chip)] = known.truth
    return known.chip
