"""What a model in training answers to a few examples, for whoever watches; disturbs nothing.

The model is asked as it is, with its adapters in it, through transformers' `generate`: greedy, so
that no random number is drawn, and without dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import StoppingCriteria, TrainerCallback

from earthmind_lab.engine.base import StopRule
from earthmind_lab.engine.cache import ByteCache
from earthmind_lab.engine.drawing import Drawer, Drawing
from earthmind_lab.engine.transcript import Transcript
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Found, Reply
from earthmind_lab.figures import draw_masks
from earthmind_lab.finetune.examples import Example, Examples
from earthmind_lab.finetune.scoring import kind_of, longest_answer, score_of, some_of
from earthmind_lab.finetune.watching import Told, Watcher
from earthmind_lab.model.batch import collate

SHOWN = 2
"""Pictures of an example that are shown beside its masks."""


class Sampler:
    """Asks a model in training.

    Args:
        step: `EarthMindTraining`.
        processor: Of its model.
        options: How prompts are arranged.
        around: Makes the context in which the model computes (autocast).
    """

    def __init__(self, step: Any, processor: Any, options: Any, around: Callable[[], Any]) -> None:
        self._step, self._processor, self._options = step, processor, options
        self._around = around
        self._stop = StopRule.of(processor)

    def ask(self, examples: Examples) -> tuple[Told, ...]:
        """What the model answers to each of some examples, which are opened anew."""
        with _answering(self._step), self._around():
            return tuple(self._told(examples, index) for index in range(len(examples)))

    def _told(self, examples: Examples, index: int) -> Told:
        info = examples.info(index)
        about: dict[str, Any] = {"id": info.id, "task": info.task}
        nothing: dict[str, Any] = {"said": "", "score": None}
        try:
            example = examples[index]
        except EarthMindError as error:
            about |= {"kind": "", "question": "", "wanted": ""}
            return Told(**about, **nothing, failed=str(error))
        about |= {"kind": kind_of(example), "question": example.prompt.text}
        about["wanted"] = example.reply
        try:
            reply = self._reply(example)
        except (EarthMindError, torch.OutOfMemoryError) as error:
            return Told(**about, **nothing, failed=" ".join(str(error).split()))
        score, pictures = score_of(example, reply), tuple(self._pictures(example, reply))
        return Told(**about, said=reply.raw, score=score, pictures=pictures)

    def _reply(self, example: Example) -> Reply:
        model, prompt = self._step.model, example.prompt
        inputs = {
            name: _on(tensor, model)
            for name, tensor in collate(self._processor, [prompt], self._options).items()
        }
        written = _Written(Transcript(self._processor.decode, self._stop))
        out = model.generate(
            **inputs,
            max_new_tokens=longest_answer(self._processor, example),
            do_sample=False,
            use_cache=True,
            eos_token_id=None,
            pad_token_id=0,
            stopping_criteria=[written],
            return_dict_in_generate=True,
            output_hidden_states=True,
        )
        objects: tuple[Found, ...] = ()
        (marks,) = model.marks(out.sequences, out.hidden_states)
        if prompt.views and len(marks):
            every = (*prompt.views, *prompt.follow)
            frames = self._processor.arrange(prompt, self._options).mask_views
            drawing = Drawing(
                marks=marks,
                frames={index: every[index] for index in frames},
                prompted=sum(index < len(prompt.views) for index in frames),
            )
            drawer = Drawer(model, self._processor, ByteCache(0))
            drawer.draw([drawing])
            objects = drawer.found(drawing)
        _, text = written.transcript.finish()
        return Reply(text=text, raw=written.transcript.said, objects=objects)

    def _pictures(self, example: Example, reply: Reply) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        prompt = example.prompt
        marked = [region.mask for region in prompt.regions]
        for view in prompt.views[:SHOWN]:
            fit = [mask for mask in marked if mask.shape == view.shape]
            yield view.name, draw_masks(view.image, fit) if fit else view.image
        wanted = example.masks if example.masks is not None else np.zeros((0, 1, 1, 1), bool)
        if not prompt.views or not (len(wanted) or reply.objects):
            return
        first = self._processor.arrange(prompt, self._options).mask_views[0]
        view = (*prompt.views, *prompt.follow)[first]
        true = list(wanted if wanted.ndim == 3 else wanted[:, 0])
        given = [
            found.mask_logits > 0
            for found in reply.objects
            if found.mask_logits is not None and found.view == first
        ]
        yield "wanted", draw_masks(view.image, [m for m in true if m.shape == view.shape])
        yield "given", draw_masks(view.image, given)


class Samples(TrainerCallback):
    """Has the model asked before the first step, at each validation, and tells watchers.

    Args:
        watchers: Those who want answers.
        held: Examples that nothing is learned from; None = there are none.
        train: Asked in their place.
        most: Examples that are asked.
        every: Steps between two times without validation; 0 = after each epoch.

    Attributes:
        sampler: To be set before the training begins.
    """

    sampler: Sampler

    def __init__(
        self,
        watchers: Sequence[Watcher],
        held: Examples | None,
        train: Examples,
        *,
        most: int,
        every: int,
    ) -> None:
        self._watchers, self._every, self._learned = watchers, every, held is None
        self._examples = some_of(train if held is None else held, most)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - the library's form
        """What it says before anything is learned, or where it goes on."""
        self._ask(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - as above
        """After each validation."""
        self._ask(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - as above
        """Without validation, as often as there would be one."""
        if self._learned and self._every and state.global_step % self._every == 0:
            self._ask(state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - as above
        """The same without a number of steps."""
        if self._learned and not self._every:
            self._ask(state.global_step)

    def _ask(self, step: int) -> None:
        told = self.sampler.ask(self._examples)
        for watcher in self._watchers:
            watcher.answered(step, told, learned=self._learned)


class _Written(StoppingCriteria):
    """Ends an answer as the engine ends it."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002 - as above
        ended = self.transcript.append(int(input_ids[0, -1]))
        return torch.tensor([ended], device=input_ids.device)


@contextmanager
def _answering(step: Any) -> Iterator[None]:
    """The model as it answers; then as it was."""
    was = step.training
    step.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        step.train(was)


def _on(tensor: Tensor, model: Any) -> Tensor:
    dtype = model.dtype if tensor.is_floating_point() else None
    return tensor.to(model.device, dtype)
