"""Long passes of a model can be ended between its layers, and whoever waits is heard there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def heard_between(model: nn.Module, heed: Callable[[], None]) -> Callable[[], None]:
    """From now on call `heed` before every layer that reads more than one position.

    What the layers compute stays the same to the last bit. A pass over one position per answer is
    left alone: it is short, and there are many. On a GPU the layers are only queued here, so that
    a pass that is ended still computes what was queued; there that is a matter of a second.

    Args:
        model: Any model of transformers; its layers (of language, vision and mask towers) are
            known by the class that the library gives them all.
        heed: May raise, which ends the pass.

    Returns:
        What takes it away again.
    """

    # No hooks of torch: with them a layer's call is a closure over what it is given, and the
    # traceback of an error that went through it would hold that.
    def heard(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if not given or given[0].shape[1] > 1:
                heed()
            return forward(*given, **more)

        return call

    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = heard(layer.forward)

    def undo() -> None:
        for layer in layers:
            vars(layer).pop("forward", None)

    return undo
