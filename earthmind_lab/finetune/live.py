"""LiveView: a training in a notebook while it goes on, with a button that ends it.

`finetune` shows one by itself in the cell that calls it. JupyterLab hands a click over beside the
running cell; where another front end doesn't, interrupting the cell does the same as the button.

What models and data say is text: it is escaped, and never becomes part of a page.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from earthmind_lab.finetune.history import History
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.shown import small
from earthmind_lab.finetune.watching import Told, Watcher
from earthmind_lab.kernel import remind_kernel

LOG = logging.getLogger(__name__)
LEAST_SECONDS = 0.5
"""Between two drawings."""
SHARE = 0.05
"""Of the time, what drawing may take of it."""
SIDE_PX = 160
"""Longest side of a sample's pictures."""
NAMES = {"loss": "all, weighted"}
ENDS = {
    "done": "Done.",
    "early": "Ended early: the validation loss went no further down.",
    "stopped": "Stopped, with a checkpoint: the same call goes on from here.",
}


class LiveView(Watcher):
    """A training in a notebook: losses, rate, held-out scores, sample answers, and Stop.

    Args:
        name: Of the recipe.
        earlier: Lines of the log of a training that may be gone on with.
        losses: The ones that are drawn beside their sum; empty = all.

    Attributes:
        history: What it shows, as plain data.
        widget: What is displayed.
    """

    shows_progress = True

    def __init__(
        self, name: str, earlier: Sequence[dict[str, Any]] = (), losses: Sequence[str] = ()
    ) -> None:
        remind_kernel()
        self.history, self._name, self._losses = History(earlier), name, losses
        self._doing, self._next, self._broken = "Opening examples and model…", 0.0, False
        self.stop_button = ipywidgets.Button(
            description="Stop", icon="stop", button_style="warning", disabled=True,
            tooltip="End after the step under way, with a checkpoint to go on from",
        )  # fmt: skip
        self.stop_button.on_click(self._asked)
        self._bar = ipywidgets.IntProgress(min=0, max=1, layout={"width": "40%"})
        self._said, self._table, self._samples = (ipywidgets.HTML() for _ in range(3))
        self._curve = ipywidgets.Image(format="svg+xml", layout={"max_width": "100%"})
        self._curve.layout.display = "none"
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HBox([self._bar, self.stop_button]),
                self._said, self._curve, self._table, self._samples,
            ]
        )  # fmt: skip
        self._draw(now=True)

    def show(self) -> None:
        """Display it in the cell."""
        from IPython.display import display

        display(self.widget)  # type: ignore[no-untyped-call]

    # --- what a watcher is told -----------------------------------------------------------------

    def began(self, step: int, steps: int) -> None:
        """The button works from now on."""
        self.history.begin(step, steps)
        self._doing = ""
        self.stop_button.disabled = self.stop
        self._draw(now=True)

    def row(self, row: dict[str, Any]) -> None:
        """Draw the line on, now or soon."""
        self.history.add(row)
        self._draw(now="validation" in row)

    def answered(self, step: int, told: Sequence[Told], *, learned: bool) -> None:
        """Show the answers."""
        self.history.answer(step, told, learned=learned)
        self._guard(self._draw_samples)
        self._draw(now=True)

    def says(self, text: str) -> None:
        """What is done now; no step can be stopped any more."""
        self._doing, self.stop_button.disabled = text, True
        self._draw(now=True)

    def ended(self, how: str) -> None:
        """Say how, and why."""
        self._doing, self.stop_button.disabled = ENDS.get(how, how), True
        self.history.over = True
        self.stop_button.description = "Stop"
        self._bar.bar_style = {"done": "success", "early": "success", "stopped": "warning"}.get(
            how, "danger"
        )
        self._draw(now=True)

    def _asked(self, _: object) -> None:
        """The button; on any thread."""
        self.stop = True
        self.stop_button.disabled, self.stop_button.description = True, "Stopping…"

    # --- drawing --------------------------------------------------------------------------------

    def _draw(self, *, now: bool) -> None:
        """Show the state, at once or when it is due: no training should wait for its picture."""
        began = time.monotonic()
        if now or began >= self._next:
            self._guard(self._draw_all)
            took = time.monotonic() - began
            self._next = began + max(LEAST_SECONDS, took / SHARE)

    def _guard(self, draw: Any) -> None:
        """A view that can't be drawn must not end a training."""
        try:
            draw()
        except Exception:
            LOG.log(logging.DEBUG if self._broken else logging.WARNING,
                    "The view of the training can't be drawn.", exc_info=True)  # fmt: skip
            self._broken = True

    def _draw_all(self) -> None:
        history = self.history
        self._bar.max, self._bar.value = max(1, history.steps), history.step
        said = ". ".join(part for part in (history.progress(), self._doing) if part)
        self._said.value = f"<b>{escape(self._name)}</b> {escape(said)}"
        if history.rows:
            self._curve.value = curve(history, self._losses)
            self._curve.layout.display = None
        self._table.value = table(history)

    def _draw_samples(self) -> None:
        self._samples.value = samples(self.history)


def view_of(recipe: Recipe, out: Path) -> LiveView:
    """The view of a training into a folder, with what was logged there before."""
    from earthmind_lab.finetune.following import read_log

    used = [name for name, weight in vars(recipe.losses).items() if weight and name != "points"]
    return LiveView(recipe.name, read_log(out / "losses.jsonl"), used)


def curve(history: History, losses: Sequence[str] = ()) -> bytes:
    """Losses and learning rate as SVG.

    Args:
        history: Of the training.
        losses: The ones that are drawn beside their sum; empty = all.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2.5, 1))
    lines = history.lines()
    steps, rates = lines.pop("rate", ([], []))
    for name, (at, values) in lines.items():
        whole = name == "loss"
        if not whole and losses and name not in losses:
            continue
        # Steps without a mask have no mask loss: a single one would draw no line.
        left.plot(at, values, label=NAMES.get(name, name), linewidth=2 if whole else 1,
                  color="black" if whole else None, marker=None if whole else ".")  # fmt: skip
    if history.validations:
        at, values = map(list, zip(*history.validations, strict=True))
        left.plot(at, values, "o--", label="held out", color="tab:red", markersize=4)
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    left.legend(fontsize="small", ncols=2)
    right.plot(steps, rates, color="tab:gray")
    right.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlim(0, max(1, history.steps))
        axes.xaxis.get_major_locator().set_params(integer=True)
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return file.getvalue()


def table(history: History) -> str:
    """Held-out loss and scores after each look, as HTML."""
    held = dict(history.validations)
    steps = sorted({*held, *history.scores})
    if not steps:
        return ""
    kinds = list(dict.fromkeys(key for each in history.scores.values() for key in each))
    head = ["step", "held-out loss", *kinds]
    rows = []
    for step in steps:
        scores = history.scores.get(step, {})
        cells = [str(step), f"{held[step]:.4f}" if step in held else "–"]
        cells += [_score(scores.get(kind)) for kind in kinds]
        rows.append(cells)
    body = "".join(
        "<tr>" + "".join(f"<td style='padding:0 1em 0 0'>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in (head, *rows)
    )  # fmt: skip
    whose = "examples it learns from" if history.learned else "held-out examples"
    return f"<table>{body}</table><small>Scores: mean of a few {whose} (how many).</small>"


def _score(score: tuple[float, int] | None) -> str:
    return "–" if score is None else f"{score[0]:.2f} ({score[1]})"


def samples(history: History) -> str:
    """The examples that are asked, with what was wanted and what is answered, as HTML."""
    if not history.told:
        return ""
    whose = "It learns from these" if history.learned else "Held out"
    head = f"<b>Sample answers after step {history.told_at}</b> ({whose})"
    return head + "".join(_sample(history, each) for each in history.told)


def _sample(history: History, told: Told) -> str:
    pictures = "".join(
        f"<figure style='display:inline-block;margin:4px'><img alt='' style='height:{SIDE_PX}px;"
        f"image-rendering:pixelated' src='{small(image, SIDE_PX)}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, image in told.pictures
    )
    first = history.first.get(told.id)
    lines = [("Question", told.question), ("Wanted", told.wanted)]
    if told.failed:
        lines.append(("Could not be asked", told.failed))
    else:
        if first is not None and first is not told and not first.failed:
            lines.append((f"After step {history.told_first}", _given(first)))
        lines.append((f"After step {history.told_at}", _given(told)))
    text = "".join(
        f"<div><i>{escape(name)}:</i> <span style='white-space:pre-wrap'>{escape(words)}</span>"
        "</div>"
        for name, words in lines
    )
    return (
        "<div style='border-top:1px solid #ccc;padding:4px;display:flex;flex-wrap:wrap;gap:8px'>"
        f"<div>{pictures}</div><div style='line-height:1.4'>{text}</div></div>"
    )


def _given(told: Told) -> str:
    return told.said if told.score is None else f"{told.said}  (score {told.score:.2f})"
