"""Take away what an answer should rest on, and every score must fall to chance.

blank       the pictures are black
other       the pictures are those of other places, up to five, each in turn
shuffled    the weights are shuffled within each tensor
no-sar      the SAR views are switched off (`Options.sensor_off`)
no-optical  the optical views are
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine.base import Engine
from earthmind_lab.errors import EarthMindError, ModelNotFound
from earthmind_lab.exchange import Modality, Options, View

if TYPE_CHECKING:
    from torch import Generator, Tensor

Control: TypeAlias = Literal["blank", "other", "shuffled", "no-sar", "no-optical"]
CONTROLS: tuple[str, ...] = get_args(Control)
OTHER_PLACES = 5
"""Other places whose pictures stand in for those of a scene, one after the other."""


def check_control(name: str | None) -> Control | None:
    """The control of a name.

    Raises:
        EarthMindError: There is none.
    """
    if name is not None and name not in CONTROLS:
        raise EarthMindError(f"There is no control {name!r}.", change=", ".join(CONTROLS))
    return cast("Control | None", name)


def options_of(control: Control | None) -> Options:
    """How to ask under a control."""
    off: dict[str, Modality] = {"no-sar": "sar", "no-optical": "optical"}
    return Options(sensor_off=off.get(control or ""))


def blank(views: Sequence[View]) -> tuple[View, ...]:
    """The views, black."""
    return tuple(replace(view, image=np.zeros_like(view.image)) for view in views)


def swapped(views: Sequence[View], others: Sequence[View]) -> tuple[View, ...]:
    """The views with the pixels of another place, each resized to the size of its own.

    Args:
        views: What would be shown.
        others: Of the other place. A composite that it lacks is taken from its sensor's first,
            else it is black.
    """
    found = []
    for view in views:
        same = [other for other in others if other.modality == view.modality]
        named = next((other for other in same if other.name == view.name), None)
        source = named or (same[0] if same else None)
        pixels = np.zeros_like(view.image) if source is None else _resized(source.image, view.shape)
        found.append(replace(view, image=pixels))
    return tuple(found)


def other_places(
    index: int, places: Sequence[str], fit: Collection[int] | None = None, *, seed: int = 0
) -> list[int]:
    """The sites whose pictures may stand in for those of one, as they are drawn: one per place.

    Drawn without a look at the truth: a picture of different truth would be wrong on purpose, and
    an answer that follows it is worse than chance, not at chance.

    Args:
        index: Of the site.
        places: Of every site, in order.
        fit: Sites to draw from, such as those that hold the same sensors; all where none of them
            is of another place. None = all.
        seed: Of the draw.

    Raises:
        EarthMindError: All are of one place.

    >>> other_places(0, ["a", "a", "b"])
    [2]
    """
    others = [i for i, place in enumerate(places) if place != places[index]]
    if not others:
        raise EarthMindError(
            "There is no other place to take pictures from.", change="a catalog with two places"
        )
    others = [i for i in others if fit is None or i in fit] or others
    order = np.random.default_rng((seed, index)).permutation(len(others))
    drawn: dict[str, int] = {}
    for i in order:
        drawn.setdefault(places[others[i]], others[i])
    return list(drawn.values())


@contextmanager
def shuffled_engine(model: str | Path, *, seed: int = 0) -> Iterator[Engine]:
    """A model with its weights shuffled within each tensor: same numbers, no knowledge.

    Args:
        model: As for `load_engine`, but not the address of a server.
        seed: Of the shuffling.

    Raises:
        ModelNotFound: No weights on this machine to shuffle.
    """
    import torch
    from safetensors.torch import load_file, save_file

    from earthmind_lab.engine.loading import load_engine
    from earthmind_lab.model.published import local_folder

    if "://" in str(model):
        raise ModelNotFound(
            "The weights of a server can't be shuffled.", found=str(model),
            change="the model's name or folder",
        )  # fmt: skip
    source = local_folder(str(model))
    generator = torch.Generator().manual_seed(seed)
    with tempfile.TemporaryDirectory(prefix="earthmind-shuffled-") as draft:
        folder = Path(draft) / "model"
        shutil.copytree(source, folder)
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ModelNotFound(f"{source} holds no safetensors weights to shuffle.")
        for file in files:
            state = {name: _permuted(value, generator) for name, value in load_file(file).items()}
            save_file(state, file, metadata={"format": "pt"})
        engine = load_engine(folder)
        try:
            yield engine
        finally:
            engine.close()


def _permuted(value: Tensor, generator: Generator) -> Tensor:
    import torch

    order = torch.randperm(value.numel(), generator=generator)
    return value.flatten()[order].view_as(value).contiguous()


def _resized(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0])), np.uint8)
