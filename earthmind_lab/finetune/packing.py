"""Examples about one scene, side by side, so that its pictures are read once.

Which examples belong together is told by `ExampleInfo` before a picture is opened: those of one
source that name the same pictures and place. Whether they really show the same is seen when they
are opened (`model.packing`); what doesn't has a row of its own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.batches import Joined
from earthmind_lab.finetune.examples import Example, Examples
from earthmind_lab.finetune.recipe import Recipe


class Packed:
    """A source in rows of examples; what a training draws from.

    A scene of eleven examples gives rows of six and five, not of ten and one: a pass averages over
    what it learns, so that an example of a short row counts more.

    Args:
        examples: The source.
        most: Examples of a row.
        seed: Draws which examples of a scene come together; they stay together in every epoch.

    Attributes:
        rows: Places of the examples of each row in their source.

    Example:
        >>> from earthmind_lab.exchange import Prompt
        >>> from earthmind_lab.finetune.examples import ExampleInfo, Listed
        >>> info = ExampleInfo(id="1", task="question", pictures=("a.png",))
        >>> one = Example(info=info, prompt=Prompt(text="?"), reply="Yes.")
        >>> [len(row) for row in Packed(Listed([one] * 11), 10).rows]
        [6, 5]
    """

    def __init__(self, examples: Examples, most: int, *, seed: int = 0) -> None:
        self.examples = examples
        scenes: dict[Hashable, list[int]] = {}
        for index in range(len(examples)):
            scenes.setdefault(_scene(examples, index), []).append(index)
        generator = np.random.default_rng(seed)
        self.rows: list[tuple[int, ...]] = []
        for members in scenes.values():
            parts = np.array_split(generator.permutation(members), math.ceil(len(members) / most))
            self.rows += [tuple(sorted(part.tolist())) for part in parts]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Example, ...]:
        return tuple(self.examples[place] for place in self.rows[index])

    @property
    def said(self) -> str:
        """How much there is to gain, for people."""
        if len(self) == len(self.examples):
            return f"Packing: no two of {len(self.examples)} examples name the same pictures."
        return f"Packing: {len(self.examples)} examples in {len(self)} rows."


def packed(recipe: Recipe, examples: Examples) -> Packed | Examples:
    """What a training draws from: rows where the recipe packs, else the examples."""
    if recipe.packing == 1:
        return examples
    return Packed(examples, recipe.packing, seed=recipe.seed)


def check_packing(recipe: Recipe, fusion: str) -> None:
    """Refuse to pack what can't be.

    Args:
        recipe: Of the training.
        fusion: Of its model.

    Raises:
        EarthMindError: The question decides how a pair's tokens are fused, so no two questions
            share them; ten of them in one pass would take the memory of ten pairs.
    """
    if recipe.packing > 1 and recipe.forms != "image" and (recipe.fusion or fusion) == "weighted":
        raise EarthMindError(
            f"packing: {recipe.packing} can't be: in this model the question decides how a pair's "
            "sensors are weighed, so that no two questions share its tokens.",
            found="fusion: weighted",
            change="packing=1; or forms=image, for single pictures; or fusion=concatenate, which "
            "a model must have been trained with",
        )


def _scene(examples: Examples, index: int) -> Hashable:
    """Equal for examples that are likely to show the same; of its own where nothing is told."""
    info = examples.info(index)
    if not info.pictures:
        return index
    part = examples.part(index) if isinstance(examples, Joined) else 0
    return part, info.pictures, b"" if info.place is None else info.place.wkb
