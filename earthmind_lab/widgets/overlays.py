"""What an answer in memory can show beside its outlines: probability, weights of the sensors.

>>> colours(np.array([[0.0, 1.0]]), SURE).tolist()
[[[68, 1, 84], [253, 231, 37]]]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import Answer, format_area, observable
from earthmind_lab.exchange import Reply
from earthmind_lab.grid import pixel_areas
from earthmind_lab.widgets.web_mercator import Shown, lay_out

if TYPE_CHECKING:
    from earthmind_lab.chip import Chip

Kind: TypeAlias = Literal["probability", "weights"]
KINDS: tuple[Kind, ...] = ("probability", "weights")

SURE = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""From 0 to 1; viridis, which keeps its order for colour-blind eyes and in grey."""
SHARE = ("#b35806", "#f1a340", "#f7f7f7", "#998ec3", "#542788")
"""From all optical to all SAR; ColorBrewer's PuOr, reversed."""
LEAST, MOST, STEP = 0.05, 0.95, 0.01
"""Where masks can be cut by hand."""


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """How a layer is called and coloured."""

    title: str
    name: str
    """Of the quantity, from 0 to 1."""
    stops: tuple[str, ...]


RAMPS: dict[Kind, Ramp] = {
    "probability": Ramp(title="Probability", name="model's own, uncalibrated", stops=SURE),
    "weights": Ramp(
        title="Sensor weights (heuristic, not an explanation)",
        name="weight of SAR beside optical", stops=SHARE,
    ),
}  # fmt: skip


def probability(reply: Reply) -> NDArray[np.float32] | None:
    """(H, W) the highest probability that any object of a reply has; None without masks."""
    found = [reply.probability(each) for each in reply.objects]
    held = [each for each in found if each is not None]
    return None if not held else np.asarray(np.maximum.reduce(held), dtype=np.float32)


def sar_share(reply: Reply, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """(H, W) share of SAR in the weights of both sensors; None where they were not weighted.

    Args:
        reply: With one weight per visual token; the tokens cover the whole grid.
        shape: (H, W) of the grid.
    """
    weights = reply.sensor_weights
    if weights is None:
        return None
    optical, sar = weights
    share = np.divide(sar, optical + sar, out=np.full_like(sar, 0.5), where=optical + sar > 0)
    rows, columns = (
        np.arange(side) * cells // side for side, cells in zip(shape, share.shape, strict=True)
    )
    return np.asarray(share[np.ix_(rows, columns)], dtype=np.float32)


def colours(values: NDArray[np.floating], stops: tuple[str, ...]) -> NDArray[np.uint8]:
    """(H, W, 3) colours of values from 0 to 1."""
    known = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops])
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(values, at, known[:, channel]) for channel in range(3)]
    return np.asarray(np.rint(np.stack(channels, axis=-1)), dtype=np.uint8)


def picture(kind: Kind, answer: Answer) -> Shown | None:
    """A layer of an answer as a web map shows it; None where the answer has no such thing."""
    if answer.grid is None:
        return None
    height, width = (int(side) for side in answer.grid.shape)
    reply = answer.reply
    held = probability(reply) if kind == "probability" else sar_share(reply, (height, width))
    return None if held is None else lay_out(colours(held, RAMPS[kind].stops), answer.grid)


def area_curve(answer: Answer, chip: Chip | None) -> list[str]:
    """Mapped area in words at each probability from `LEAST` to `MOST`, every `STEP`.

    Args:
        answer: With its probabilities.
        chip: What it was asked about; None, or another grid = empty, as it can't be said which
            pixels count.
    """
    sure = probability(answer.reply)
    if chip is None or answer.grid is None or sure is None or chip.grid != answer.grid:
        return []
    areas = pixel_areas(answer.grid)
    each = np.broadcast_to(areas[:, None] if areas.ndim == 1 else areas, sure.shape)
    allowed = observable(chip)
    order = np.argsort(sure[allowed])
    values, above = sure[allowed][order], np.append(0.0, np.cumsum(each[allowed][order][::-1]))
    count = len(values) - np.searchsorted(values, steps(), side="right")
    return [format_area(float(above[n])) for n in count]


def steps() -> NDArray[np.float64]:
    """The probabilities of `area_curve`."""
    return np.linspace(LEAST, MOST, round((MOST - LEAST) / STEP) + 1).round(2)
