"""Answers being written: what each has still to read is read together, then each gets a token."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from earthmind_lab.engine.base import Step
from earthmind_lab.engine.sampling import chosen
from earthmind_lab.engine.slots import Row
from earthmind_lab.engine.voices import Voice
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.model.modeling import EarthMindForConditionalGeneration

SEEN = 16384
"""Positions that one pass over several texts sees at most, of all its answers."""
UNKNOWN = int(np.iinfo(np.int64).min)
"""What a position is made from that no other ask can share."""


@dataclass(kw_only=True, eq=False)
class LocalState:
    """An answer being written."""

    prompt: Prompt
    options: Options
    row: Row | None
    """What the language model has read of it; None before that, and once released."""
    content: NDArray[np.int64]
    """(L,) of the prompt; see `Composed.content`."""
    start: int
    """Positions of the prompt before it belong to the pictures and are read."""
    text: Tensor
    """(L - start, D) embeddings of the rest."""
    generator: torch.Generator
    voice: Voice
    """Who answers."""
    pictures: int = 0
    """Positions of the pass over pictures from which it goes on; see `Reading.pictures`."""
    tokens_prefilled: int = 0
    sensor_weights: NDArray[np.float32] | None = None
    sam_encodes: int = 0
    said: list[int | Tensor] = field(default_factory=list)
    """What follows the prompt, read or not: written tokens, and embeddings (D,) from `extend`."""
    logits: Tensor | None = None
    """(vocabulary,) float32, of the next token, once everything is read."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(T,) what each position after the prompt is made from; see `Composed.content`."""
        return np.array([one if isinstance(one, int) else UNKNOWN for one in self.said], np.int64)

    @property
    def unread(self) -> int:
        """Positions that the language model has still to read."""
        return len(self.content) + len(self.said) - _row(self).length


class Writer:
    """Writes answers with one language model.

    A call that fails leaves every answer as it was, or further on in what it has read.

    Args:
        model: In evaluation mode.
        speak: Lets the model speak with a voice.
    """

    def __init__(
        self, model: EarthMindForConditionalGeneration, speak: Callable[[Voice], None]
    ) -> None:
        self._model, self._speak = model, speak

    def step(self, states: Sequence[LocalState]) -> list[Step]:
        """One more token of each answer (at least one), greedy or drawn with the ask's own seed."""
        for group in _alike(states):
            self._read(group)
        logits = torch.stack([_logits(state) for state in states])  # (B, V)
        steps, generators = chosen(
            logits,
            [state.options.temperature for state in states],
            [state.generator for state in states],
        )
        for state, step, generator in zip(states, steps, generators, strict=True):
            state.said.append(step.token_id)
            state.generator, state.logits = generator, None
        return steps

    def marked(self, state: LocalState, token: int) -> Tensor:
        """(N, D) states at which the model reads a token, wherever an answer has written it.

        The model speaks with the answer's voice afterwards.

        All that follows the pictures is read again, alone and in one pass, so that they are the
        same whoever else was asking.
        """
        self._speak(state.voice)
        row, embeds = _row(state), self._after(state)
        before, row.length = row.length, state.start
        try:
            hidden = state.voice.slots.read([row], embeds[None], [len(embeds)])  # (1, T, D)
            logits = self._next(hidden, [len(embeds)])[0]
        except BaseException:
            row.length = before
            raise
        row.length += len(embeds)
        state.logits = logits
        places = np.flatnonzero(state.ids == token) + len(state.text)
        return hidden[0, torch.from_numpy(places).to(hidden.device)]

    def _read(self, states: Sequence[LocalState]) -> None:
        """One pass over all that these answers, of one voice, have not read yet."""
        voice = states[0].voice
        self._speak(voice)
        rows, counts = [_row(state) for state in states], [state.unread for state in states]
        hidden = voice.slots.read(rows, self._ahead(states), counts)  # (B, T, D)
        logits = self._next(hidden, counts)
        for state, row, count, own in zip(states, rows, counts, logits, strict=True):
            row.length += count
            state.logits = own

    def _next(self, hidden: Tensor, counts: Sequence[int]) -> Tensor:
        """(B, V) float32 logits after the last position that is no padding."""
        last = torch.tensor(counts, device=hidden.device) - 1
        ends = hidden[torch.arange(len(counts), device=hidden.device), last]  # (B, D)
        logits: Tensor = self._model.language.lm_head(ends)
        return logits.float()

    def _ahead(self, states: Sequence[LocalState]) -> Tensor:
        """(B, T, D) embeddings of what each has not read, padded on the right."""
        last = [state.said[-1] for state in states if state.said and state.unread == 1]
        if len(last) == len(states) and all(isinstance(one, int) for one in last):
            return self._model.embed(torch.tensor(last, device=self._model.device)[:, None])
        return pad_sequence(
            [self._after(state)[-state.unread :] for state in states], batch_first=True
        )

    def _after(self, state: LocalState) -> Tensor:
        """(T, D) embeddings of all that follows the pictures."""
        parts = [state.text]
        for written, run in itertools.groupby(state.said, lambda one: isinstance(one, int)):
            same: list[Any] = list(run)
            ids = torch.tensor(same, device=self._model.device) if written else None
            parts.append(torch.stack(same) if ids is None else self._model.embed(ids))
        return torch.cat(parts)


def _row(state: LocalState) -> Row:
    assert state.row is not None, "released"
    return state.row


def _logits(state: LocalState) -> Tensor:
    assert state.logits is not None, "read"
    return state.logits


def _alike(states: Sequence[LocalState]) -> Iterator[list[LocalState]]:
    """Those with something to read, by voice, in groups as `_as_long` makes them."""
    behind = [state for state in states if state.unread]
    for voice in dict.fromkeys(state.voice for state in behind):
        yield from _as_long([state for state in behind if state.voice is voice])


def _as_long(behind: Sequence[LocalState]) -> Iterator[list[LocalState]]:
    """Answers in groups that are at most half padding, in row order."""
    lengths = {state.unread.bit_length() for state in behind}
    for bits in sorted(lengths, reverse=True):
        group = [state for state in behind if state.unread.bit_length() == bits]
        group.sort(key=lambda state: _row(state).place)
        # Of a single position attention needs no copy of what it sees, of several it does.
        most = len(group) if bits == 1 else max(1, SEEN // max(map(_until, group)))
        for first in range(0, len(group), most):
            yield group[first : first + most]


def _until(state: LocalState) -> int:
    """Positions read once nothing is unread."""
    return _row(state).length + state.unread
