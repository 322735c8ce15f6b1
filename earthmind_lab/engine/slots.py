"""Keys and values of many answers in one place, so that one pass of the model serves them all.

Each answer has a row; rows are as long as they are, from the left. What a pass reads of each row
may differ in length: it is padded on the right, and nothing of the padding is ever stored. Rows in
use lie together, so that those of one pass are a view of the whole and not a copy: when a row
ends, the last one takes its place.

transformers' own cache of many sequences in step pads on the left and takes token ids, so that an
answer that joins would move all the others.

Shapes: R rows, H heads of keys, C capacity of a row in positions, d width of a head; B rows of one
pass, T positions read, K positions seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

POSITION_BLOCK = 128
"""Rows grow by so many positions."""
ROW_BLOCK = 4
"""Beyond this many rows, their number grows by as many."""
ALIGNED = 8
"""Kernels want masks whose rows are a multiple of this long."""

Layers = tuple[Tensor, ...]
"""Keys and values of one row: (2, H, K, d) of each layer."""


@dataclass(kw_only=True, eq=False)
class Row:
    """Where one answer is kept."""

    place: int
    """Its index among the rows now; changes when another row ends."""
    room: int
    """Positions it will take, as far as is known."""
    length: int = 0
    """Positions read. Whoever reads moves it on, once all it wanted of the pass has come about."""


def rounded(positions: int) -> int:
    """Positions that a row of so many takes up."""
    return -(-positions // POSITION_BLOCK) * POSITION_BLOCK


class Slots:
    """The rows of all answers under way.

    A call that fails, out of memory above all, leaves every row as it was.

    Args:
        language: A causal language model of transformers with plain attention in all layers.

    Attributes:
        rows: In use, by their place.
    """

    def __init__(self, language: Any) -> None:
        self._language = language
        config = language.config
        width = getattr(config, "head_dim", None)
        self._heads: int = config.num_key_value_heads
        self._width: int = width or config.hidden_size // config.num_attention_heads
        self._layers: list[Tensor] = []  # keys and values, (2, R, H, C, d) each
        self.rows: list[Row] = []

    @property
    def position_nbytes(self) -> int:
        """Bytes of one position of one row."""
        count: int = self._language.config.num_hidden_layers
        return 2 * count * self._heads * self._width * int(self._language.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return sum(store.nbytes for store in self._layers)

    def nbytes_with(self, room: int) -> int:
        """Bytes that would be held with one more row."""
        return self._wanted_rows(1) * self._wanted_positions(room) * self.position_nbytes

    def open(self, room: int, known: Layers = (), length: int = 0) -> Row:
        """A new row.

        Args:
            room: Positions it will take in all; more can be read, at the cost of a copy.
            known: What was read before, as from `copy`, ...
            length: ... of which so many positions are taken over.
        """
        self._fit(self._wanted_rows(1), self._wanted_positions(room))
        row = Row(place=len(self.rows), room=room, length=length)
        for store, read in zip(self._layers, known, strict=False):
            store[:, row.place, :, :length] = read[:, :, :length]
        self.rows.append(row)
        return row

    def close(self, row: Row) -> None:
        """End a row; the last one takes its place."""
        last = self.rows.pop()
        if last is not row:
            self.rows[row.place] = last
        for store in self._layers if self.rows else ():
            if last is not row:
                store[:, row.place] = store[:, last.place]
            # What is masked must still be a number, and not a broken one of another answer.
            store[:, last.place] = 0
        last.place = row.place
        if not self.rows:
            self._layers = []

    def clear(self) -> None:
        """End all rows, in whatever state a call that never returned has left them."""
        self.rows, self._layers = [], []

    def copy(self, row: Row, length: int) -> Layers:
        """The first positions of a row, apart from the others."""
        return tuple(store[:, row.place, :, :length].clone() for store in self._layers)

    def read(self, rows: Sequence[Row], embeds: Tensor, counts: Sequence[int]) -> Tensor:
        """Let the model read on after each of some rows.

        One row alone computes what the model computes with a cache of its own. The lengths of the
        rows stay: `Row.length` is moved on by the caller.

        Args:
            rows: B different ones; in the order of their places and without gaps they cost no
                copy.
            embeds: (B, T, D), padded on the right.
            counts: Of each row the positions that are no padding; 1 to T.

        Returns:
            Last hidden state (B, T, D); what padding gave is without meaning.
        """
        until = max(row.length + count for row, count in zip(rows, counts, strict=True))
        self._fit(self._wanted_rows(0), self._wanted_positions(until))
        reading = _Reading(rows, counts, embeds)
        output = self._language.model(
            inputs_embeds=embeds,
            attention_mask=reading.mask,
            position_ids=reading.positions,
            past_key_values=Cache(layers=[_Layer(store, reading) for store in self._layers]),
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _wanted_rows(self, more: int) -> int:
        count = len(self.rows) + more
        return count if count <= 2 else -(-count // ROW_BLOCK) * ROW_BLOCK

    def _wanted_positions(self, room: int) -> int:
        return rounded(max(room, *(max(row.room, row.length) for row in self.rows), 0))

    def _fit(self, rows: int, positions: int) -> None:
        """Make room, or give back what is far too much."""
        layers = self._language.model.layers
        if not self._layers:
            self._layers = [self._empty(layer, rows, positions) for layer in layers]
            return
        used = max((row.length for row in self.rows), default=0)
        # Each layer for itself: the peak is one layer, and a failure leaves them usable.
        for index, store in enumerate(self._layers):
            have_rows, have_positions = store.shape[1], store.shape[3]
            fits = rows <= have_rows and positions <= have_positions
            if fits and have_rows * have_positions <= 2 * rows * positions:
                continue
            new = self._empty(layers[index], rows, positions)
            new[:, : len(self.rows), :, :used] = store[:, : len(self.rows), :, :used]
            self._layers[index] = new

    def _empty(self, layer: Any, rows: int, positions: int) -> Tensor:
        device = next(layer.parameters()).device
        shape = (2, rows, self._heads, positions, self._width)
        return torch.zeros(shape, dtype=self._language.dtype, device=device)


class _Reading:
    """One pass over some rows: where it writes and what it sees.

    Args:
        rows: As in `Slots.read`.
        counts: As there.
        embeds: As there.
    """

    def __init__(self, rows: Sequence[Row], counts: Sequence[int], embeds: Tensor) -> None:
        places, lengths = [row.place for row in rows], [row.length for row in rows]
        width, device = embeds.shape[1], embeds.device
        self.start = lengths[0]  # asked for only where there is one row
        self.until = max(start + count for start, count in zip(lengths, counts, strict=True))
        first = places[0]
        together = places == list(range(first, first + len(places)))
        self._places: Any = (
            slice(first, first + len(places)) if together else torch.tensor(places, device=device)
        )
        offsets = torch.arange(width, device=device)  # (T,)
        self.positions = torch.tensor(lengths, device=device)[:, None] + offsets  # (B, T)
        self.mask: Tensor | None = None  # of one row the library knows it
        self._written: Any = (first, slice(None), slice(self.start, self.until))
        self._real: Tensor | None = None
        if len(rows) > 1:
            self.until = -(-self.until // ALIGNED) * ALIGNED
            hidden = torch.arange(self.until, device=device) > self.positions[..., None]
            self.mask = torch.zeros(hidden.shape, dtype=embeds.dtype, device=device)
            self.mask.masked_fill_(hidden, torch.finfo(embeds.dtype).min)
            self.mask = self.mask[:, None]  # (B, 1, T, K)
            self._scatter(places, lengths, counts, width, device)

    def _scatter(
        self,
        places: Sequence[int],
        lengths: Sequence[int],
        counts: Sequence[int],
        width: int,
        device: torch.device,
    ) -> None:
        """Row and position of everything that is no padding."""
        real = [(b, t) for b, count in enumerate(counts) for t in range(count)]
        where = torch.tensor([(places[b], lengths[b] + t) for b, t in real], device=device)
        self._written = (where[:, 0], slice(None), where[:, 1])
        if len(real) < len(counts) * width:
            self._real = torch.tensor([b * width + t for b, t in real], device=device)

    def write(self, store: Tensor, new: Tensor) -> None:
        """Put (B, H, T, d) where it belongs in (R, H, C, d)."""
        if self.mask is None:
            store[self._written] = new[0]
            return
        flat = new.transpose(1, 2).flatten(0, 1)  # (B * T, H, d)
        store[self._written] = flat if self._real is None else flat[self._real]

    def seen(self, store: Tensor) -> Tensor:
        """(B, H, K, d) of the rows."""
        return store[self._places, :, : self.until]


class _Layer(CacheLayerMixin):
    """One layer's keys and values as transformers sees them during a pass."""

    is_sliding = False

    def __init__(self, store: Tensor, reading: _Reading) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = store[0], store[1]
        self.is_initialized = True
        self._reading = reading

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the room is there."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep what was read and return all that is seen."""
        assert self.keys is not None
        assert self.values is not None
        self._reading.write(self.keys, key_states)
        self._reading.write(self.values, value_states)
        return self._reading.seen(self.keys), self._reading.seen(self.values)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys seen, and how far in they start; asked where one row is read."""
        return self._reading.start + query_length, 0

    def get_seq_length(self) -> int:
        """Positions read before; asked where one row is read."""
        return self._reading.start

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def get_max_cache_shape(self) -> int:
        """No limit, in the older name."""
        return -1
