"""How much memory some code of torch holds at its peak, whatever the device."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):
    """Counts the bytes of all storages that are made inside; scratch space of kernels is not seen.

    Attributes:
        held: Bytes now.
        peak: Most bytes at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            id(one.untyped_storage()) for one in tree_leaves((args, kwargs)) if _is_tensor(one)
        }
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if _is_tensor(one) and id(one.untyped_storage()) not in given:
                self._add(one.untyped_storage())
        return found

    def _add(self, storage: Any) -> None:
        key, nbytes = id(storage), storage.nbytes()
        if key in self._known:
            return

        def gone(_: Any) -> None:
            self.held -= nbytes
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.held += nbytes
        self.peak = max(self.peak, self.held)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
