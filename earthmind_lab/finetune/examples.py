"""What a model is taught: questions about pictures with the answers that are wanted.

Every source of training data, be it a JSON of somebody else's or chips with labels, is a sequence
of `Example`: opened one by one when it is their turn, never all at once. What can be told without
opening a picture stands in `ExampleInfo`, so that splits, leaks and licences cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from earthmind_lab.exchange import Prompt


@dataclass(frozen=True, kw_only=True)
class ExampleInfo:
    """What is known of an example before its pictures are opened."""

    id: str
    """Unique within its source; stays the same from run to run."""
    task: str
    """``question``, ``caption``, ``segment``, ``region`` or ``frames``."""
    pictures: tuple[str, ...] = ()
    """Where its pictures come from: paths or item ids. Two examples that share one are about the
    same ground."""
    place: BaseGeometry | None = None
    """Footprint in lon/lat; None where the source doesn't say."""
    licence: str = ""
    """SPDX name or the words of the source; empty = not said."""
    attribution: str = ""
    """Whom to name."""
    content: str = ""
    """Hash of what is asked, answered and marked, as far as the source knows it without opening a
    picture; empty = not known. A training isn't gone on from with other answers under old ids."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One question with the answer that is to be learned."""

    info: ExampleInfo
    """Where it comes from."""
    prompt: Prompt
    """The question with its pictures, regions and earlier turns."""
    reply: str
    """The answer with its marks ([SEG], <p>, </p>), without the stop string."""
    masks: NDArray[np.bool_] | None = None
    """Truth of each [SEG] of the reply in its order: (N, H, W) on the grid of the view that masks
    are drawn on, or (N, F, H, W) for the F frames of a series. None without [SEG]."""
    known: NDArray[np.bool_] | None = None
    """Where that truth is known, of its shape; None = everywhere. Nothing is learned of the rest,
    and no score counts it."""


@runtime_checkable
class Examples(Protocol):
    """A source of examples."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, index: int) -> Example:
        """One of them, opened.

        Raises:
            IndexError: Beyond the last one.
            LoadError: Its pictures or masks can't be read.
        """
        ...

    def info(self, index: int) -> ExampleInfo:
        """The same without opening a picture."""
        ...


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some examples of a source, in an order."""

    source: Examples
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.indices[index]]

    def info(self, index: int) -> ExampleInfo:
        """Without opening a picture."""
        return self.source.info(self.indices[index])


@dataclass(frozen=True, eq=False)
class Listed:
    """Examples that are in memory.

    Example:
        >>> info = ExampleInfo(id="1", task="question")
        >>> one = Example(info=info, prompt=Prompt(text="Is there water?"), reply="Yes.")
        >>> len(Listed([one, one])), Listed([one])[0].reply
        (2, 'Yes.')
    """

    examples: Sequence[Example]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    def info(self, index: int) -> ExampleInfo:
        """Of one of them."""
        return self.examples[index].info
