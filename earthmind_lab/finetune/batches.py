"""Examples on their way into a batch: joined, repeated, checked, named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from earthmind_lab.errors import PromptError
from earthmind_lab.finetune.examples import Example, ExampleInfo, Examples
from earthmind_lab.finetune.recipe import Recipe

if TYPE_CHECKING:
    from earthmind_lab.model.batch import Encoded

NAMES = "names"
"""Key of a batch: ids of its examples, for messages."""


class Joined:
    """Several sources as one, each repeated as its recipe says.

    Args:
        sources: Examples with how often an epoch sees each of them.
        seed: Draws which examples a fraction takes.

    Example:
        >>> from earthmind_lab.exchange import Prompt
        >>> from earthmind_lab.finetune.examples import Listed
        >>> info = ExampleInfo(id="1", task="question")
        >>> one = Listed([Example(info=info, prompt=Prompt(text="?"), reply="Yes.")] * 4)
        >>> len(Joined([(one, 2.0), (one, 0.5)]))
        10
    """

    def __init__(self, sources: Sequence[tuple[Examples, float]], *, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._places: list[tuple[Examples, int]] = []
        for source, repeats in sources:
            whole = int(repeats)
            places = [*range(len(source))] * whole
            some = round((repeats - whole) * len(source))
            places += sorted(generator.choice(len(source), some, replace=False).tolist())
            self._places += [(source, place) for place in places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:
        source, place = self._places[index]
        return source[place]

    def info(self, index: int) -> ExampleInfo:
        """Without opening a picture."""
        source, place = self._places[index]
        return source.info(place)

    def part(self, index: int) -> int:
        """Which of the sources an example comes from: equal numbers, equal sources."""
        return id(self._places[index][0])


def digest(examples: Examples) -> str:
    """SHA-256 of the ids of examples in their order, with what they ask and answer where known."""
    text = hashlib.sha256()
    for index in range(len(examples)):
        info = examples.info(index)
        text.update(f"{info.id}\0{info.content}\0".encode("utf-8", "replace"))
    return text.hexdigest()


class Collator:
    """Makes a batch of examples.

    Args:
        processor: Of the model.
        recipe: Its forms, options and longest example.
        encoded: Where vision features are known already.
    """

    def __init__(self, processor: Any, recipe: Recipe, encoded: Encoded | None = None) -> None:
        self.processor, self.recipe, self.encoded = processor, recipe, encoded

    def __call__(self, drawn: Sequence[Example | tuple[Example, ...]]) -> dict[str, Any]:
        """`training_batch`, and the ids of the examples under `NAMES`.

        Args:
            drawn: Examples, or rows of them; those that follow each other share what they show.

        Raises:
            PromptError: An example is too long, of another form, or its masks don't fit.
        """
        from earthmind_lab.model.packing import Packing, lengths
        from earthmind_lab.model.samples import Sample, training_batch

        examples = [e for each in drawn for e in (each if isinstance(each, tuple) else (each,))]
        for example in examples:
            if self.recipe.forms == "image" and len(example.prompt.views) > 1:
                raise PromptError(
                    f"The example {example.info.id!r} has several pictures.",
                    found=f"{len(example.prompt.views)} views",
                    change="forms: multi",
                )
        samples = [
            Sample(prompt=e.prompt, reply=e.reply, masks=e.masks, known=e.known) for e in examples
        ]
        names = [example.info.id for example in examples]
        try:
            batch = training_batch(
                self.processor,
                samples,
                self.recipe.options,
                form=self.recipe.form(),
                encoded=self.encoded,
                packing=Packing(most=self.recipe.packing, longest=self.recipe.max_length),
            )
        except PromptError as error:
            raise PromptError(
                f"{error.asked} Among the examples {', '.join(names)}.",
                found=error.found,
                change=error.change,
            ) from error
        tokens = lengths(batch["attention_mask"], batch.get("blocks"))
        for name, length in zip(names, tokens, strict=True):
            if length > self.recipe.max_length:
                raise PromptError(
                    f"The example {name!r} is too long; it isn't cut, for that would cut a picture "
                    "or the answer.",
                    found=f"{length} tokens, max_length: {self.recipe.max_length}",
                    change=f"max_length={length}, or leave it out",
                )
        return {**batch, NAMES: names}
