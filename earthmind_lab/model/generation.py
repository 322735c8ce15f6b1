"""transformers' `generate` for prompts with pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin

from earthmind_lab.errors import EngineError


class PictureGenerationMixin(GenerationMixin):
    """What `EarthMindForConditionalGeneration` adds to the library's `GenerationMixin`."""

    config: Any
    embed: Callable[..., Tensor]
    prompt_embeds: Callable[..., Tensor]

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self, inputs: Tensor | None = None, generation_config: Any = None, **options: Any
    ) -> Any:
        """Answer prompts: transformers' `generate`, with the pictures encoded once.

        Args:
            inputs: (B, L) token ids, left-padded; also as ``input_ids``.
            generation_config: Of transformers; options override it.
            options: ``pixel_values``, ``slots``, ``pairs`` of `prompt_embeds`, and everything that
                transformers' `generate` takes (sampling, beams, streamers, static cache, ...). The
                published stop rule is text:
                ``stop_strings=processor.stop_strings, tokenizer=processor.tokenizer``.

        Returns:
            What transformers' `generate` returns; the ids begin with the prompt.
        """
        ids = options.pop("input_ids", inputs)
        pictures = {name: options.pop(name, None) for name in ("pixel_values", "slots", "pairs")}
        if pictures["pixel_values"] is not None:
            options["inputs_embeds"] = self.prompt_embeds(ids, **pictures)
        if ids is not None:
            options["input_ids"] = ids
        library: Any = super()
        return library.generate(generation_config=generation_config, **options)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The library's, but without a cache the pictures are read again at each step."""
        cached = kwargs.get("use_cache", True)
        if inputs_embeds is not None and not cached and attention_mask is not None:
            written = attention_mask.shape[1] - inputs_embeds.shape[1]
            if written:
                new = self.embed(input_ids[:, -written:])
                inputs_embeds = torch.cat([inputs_embeds, new], dim=1)
            is_first_iteration = True
        library: Any = super()
        prepared: dict[str, Any] = library.prepare_inputs_for_generation(
            input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        return prepared

    def marks(self, sequences: Tensor, hidden_states: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
        """States of the [SEG] tokens that `generate` wrote, for `segment`.

        Args:
            sequences: (B, L + written) of ``generate(..., return_dict_in_generate=True,
                output_hidden_states=True)``, greedy or sampled.
            hidden_states: Of the same output; step k holds the states after reading token k - 1.

        Returns:
            Per prompt (N, D). A [SEG] that ends the answer was never read and is left out, as
            published; let `generate` write one token more to have its mask.

        Raises:
            EngineError: The steps do not belong to the sequences, as after a beam search.
        """
        steps = torch.stack([step[-1][:, -1] for step in hidden_states], dim=1)  # (B, K, D)
        if len(steps) != len(sequences):
            raise EngineError(
                "The states of a beam search can't be told apart.",
                found=f"{len(sequences)} answers, {len(steps)} rows of states",
                change="num_beams=1",
            )
        written = sequences[:, -steps.shape[1] :]
        marked = written[:, :-1] == self.config.seg_token_id  # (B, K - 1)
        return [states[1:][row] for states, row in zip(steps, marked, strict=True)]
