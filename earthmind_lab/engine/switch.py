"""Adapters on a model in memory: which of them it speaks with is changed without a copy.

Low ranks lie beside the linear maps that they add to; parts that were trained in full take the
place of the model's own by reference. The model's own weights are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from earthmind_lab.engine.tuned import Files
from earthmind_lab.errors import EngineError

_TOKENS = ("vision.", "projector.")
_DECODER = "sam.sam2.mask_decoder."
_PROJECTED = (f"{_DECODER}conv_s0.", f"{_DECODER}conv_s1.")
"""Parts of the mask decoder that are applied when a picture is encoded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """What an adapter adds to one linear map."""

    down: Tensor
    """(r, in)."""
    up: Tensor
    """(out, r), its scale in it."""
    gain: Tensor | None = None
    """(out,) of DoRA: by how much the sum is longer than it would be."""

    def beside(self, linear: Any, given: Tensor, own: Tensor) -> Tensor:
        """The output with what the adapter adds.

        Args:
            linear: Where it lies.
            given: (..., in) what was put in.
            own: (..., out) what the linear map made of it.
        """
        more = functional.linear(functional.linear(given, self.down), self.up)
        if self.gain is None:
            return own + more
        bias: Tensor | None = linear.bias
        if bias is None:
            return self.gain * (own + more)
        return self.gain * (own - bias + more) + bias


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """An adapter on the model's device."""

    hash: str
    nbytes: int
    pairs: Mapping[nn.Module, Pair]
    parts: Mapping[str, nn.Parameter]

    @classmethod
    def of(cls, files: Files, model: Any) -> Tuned:
        """Put an adapter on the device of a model that speaks as it was loaded.

        Raises:
            EngineError: DoRA on numbers of fewer bits.
        """
        device, dtype = model.device, model.dtype
        pairs = {}
        for name, low in files.pairs.items():
            linear = model.language.get_submodule(name)
            down, up = low["lora_A"].float(), low["lora_B"].float() * files.low.scale
            gain = None
            if files.low.dora:
                length = _length(linear, down.to(device), up.to(device))
                gain = low["lora_magnitude_vector"].to(device, torch.float32) / length
                gain = gain.to(dtype)
            pairs[linear] = Pair(down=down.to(device, dtype), up=up.to(device, dtype), gain=gain)
        parts = {
            name: nn.Parameter(tensor.to(device, dtype), requires_grad=False)
            for name, tensor in files.parts.items()
        }
        return cls(hash=files.hash, nbytes=files.nbytes, pairs=pairs, parts=parts)

    def looks(self) -> bool:
        """Whether it sees pictures otherwise: their visual tokens are its own."""
        return any(name.startswith(_TOKENS) for name in self.parts)

    def reads(self) -> bool:
        """Whether it reads otherwise: keys and values are its own."""
        language = any(name.startswith("language.") for name in self.parts)
        return bool(self.pairs) or language or self.looks()

    def prepares(self) -> bool:
        """Whether it prepares pictures for masks otherwise: their features are its own."""
        return any(
            name.startswith("sam.")
            and (name.startswith(_PROJECTED) or not name.startswith(_DECODER))
            for name in self.parts
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """Where a weight of the model lies."""

    own: nn.Parameter
    owners: tuple[tuple[nn.Module, str], ...]
    """Modules and their names for it; several where weights are tied."""


class Switch:
    """What a model speaks with now; every call from the thread that owns the model.

    Args:
        model: As it was loaded.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._places: dict[str, _Place] = {}
        self._layers: dict[nn.Module, None] = {}
        self._pairs: Mapping[nn.Module, Pair] = {}
        self._now: Tuned | None = None
        self._sure = True

    def to(self, tuned: Tuned | None) -> None:
        """Speak with an adapter, or as the model was loaded.

        A thread that is killed in here leaves a model that is neither; the next call, whatever it
        asks for, sets all of it.
        """
        if self._sure and tuned is self._now:
            return
        self._sure = False
        parts = {} if tuned is None else tuned.parts
        for name, place in self._places.items():
            weight = parts.get(name, place.own)
            for owner, field in place.owners:
                owner._parameters[field] = weight  # noqa: SLF001  assigning checks, and is slow
        self._pairs = {} if tuned is None else tuned.pairs
        self._now, self._sure = tuned, True

    def hold(self, adapters: Iterable[Tuned]) -> None:
        """From now on it may be switched to these and no others; it speaks as it was loaded."""
        self.to(None)
        adapters = list(adapters)
        self._places = self._found({name for each in adapters for name in each.parts})
        layers = {layer: None for each in adapters for layer in each.pairs}
        for layer in self._layers.keys() - layers.keys():
            vars(layer).pop("forward", None)
        self._layers = {**self._layers, **layers}  # before: a killed thread may have done some
        for layer in layers:
            if "forward" not in vars(layer):
                layer.forward = self._beside(layer)
        self._layers = layers

    def _found(self, names: set[str]) -> dict[str, _Place]:
        """Where the weights of these names lie, all places of each."""
        own = {name: p for name, p in self._model.named_parameters() if name in names}
        owners: dict[int, list[tuple[nn.Module, str]]] = {id(p): [] for p in own.values()}
        for module in self._model.modules() if names else ():
            for field, weight in module.named_parameters(recurse=False, remove_duplicate=False):
                if id(weight) in owners:
                    owners[id(weight)].append((module, field))
        return {name: _Place(own=p, owners=tuple(owners[id(p)])) for name, p in own.items()}

    def _beside(self, layer: Any) -> Callable[[Tensor], Tensor]:
        plain: Callable[[Tensor], Tensor] = layer.forward

        def forward(given: Tensor) -> Tensor:
            own, pair = plain(given), self._pairs.get(layer)
            return own if pair is None else pair.beside(layer, given, own)

        return forward


def _length(linear: Any, down: Tensor, up: Tensor) -> Tensor:
    """(out,) lengths of the rows of a linear map with what an adapter adds, in float32.

    Raises:
        EngineError: Its numbers are not there in full.
    """
    if type(linear.weight) is not nn.Parameter:
        raise EngineError(
            "This adapter (DoRA) needs the model's numbers in full.",
            found="the language part in fewer bits",
            change="load_engine() without quantize=, or an adapter trained as lora",
        )
    with torch.no_grad():
        whole: Tensor = linear.weight.float() + up @ down
        length: Tensor = torch.linalg.vector_norm(whole, dim=1)
        return length
