"""TensorBoard's event files of a training: losses, rate, held-out scores, answers as text.

Written with tensorboardX, which needs no TensorFlow and no TensorBoard; looked at with
``tensorboard --logdir RUN/tensorboard``, wherever that is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EngineUnavailable
from earthmind_lab.finetune.history import History
from earthmind_lab.finetune.telling import plain_text
from earthmind_lab.finetune.watching import Told, Watcher

FOLDER = "tensorboard"
"""In the folder of a run."""
PACKAGE = "tensorboardX"


def check_events() -> None:
    """Refuse before anything is read where event files can't be written.

    Raises:
        EngineUnavailable: tensorboardX isn't installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise EngineUnavailable(
            "logs: tensorboard needs tensorboardX.",
            found=f"no {PACKAGE}",
            change="pip install 'earthmind-lab[finetune]', or logs: ''",
        )


class EventFiles(Watcher):
    """Writes event files; of a training that goes on, they go on.

    Args:
        out: Folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._writer: Any = None
        self._history = History()

    def began(self, step: int, steps: int) -> None:  # noqa: ARG002 - a watcher's form
        """Open a file; what earlier ones say of later steps is void."""
        board: Any = importlib.import_module(PACKAGE)
        self._writer = board.SummaryWriter(str(self._folder), purge_step=step + 1 if step else None)

    def row(self, row: dict[str, Any]) -> None:
        """Losses, rate and gradient of a step, or the loss of a validation."""
        step = row["step"]
        if "validation" in row:
            self._scalar("loss/held_out", row["validation"], step)
            return
        self._scalar("loss/all", row["loss"], step)
        for name, value in row["losses"].items():
            self._scalar(f"loss/{name}", value, step)
        self._scalar("rate", row["rate"], step)
        if row.get("gradient") is not None:
            self._scalar("gradient", row["gradient"], step)

    def answered(self, step: int, told: Sequence[Told], *, learned: bool) -> None:
        """Scores as numbers, answers as text."""
        self._history.answer(step, told, learned=learned)
        side = "learned" if learned else "held_out"
        for name, (mean, _) in self._history.scores[step].items():
            self._scalar(_tag("score", side, name), mean, step)
        for each in told:
            if self._writer is not None:
                self._writer.add_text(_tag("answer", side, each.id), _as_text(each), step)

    def ended(self, how: str) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.add_text("ended", plain_text(how), self._history.told_at)
            self._writer.close()
            self._writer = None

    def _scalar(self, name: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)


def _tag(*parts: str) -> str:
    """A name as TensorBoard takes it; it sorts by the first part.

    >>> _tag("score", "held_out", "segment, mask")
    'score/held_out_segment_mask'
    """
    first, *others = (re.sub(r"[^-.\w]+", "_", part) for part in parts)
    return f"{first}/{'_'.join(others)}"


def _as_text(told: Told) -> str:
    """An answer as Markdown, which TensorBoard reads; what models say stays text."""
    given = told.failed or told.said
    lines = [("question", told.question), ("wanted", told.wanted), ("given", given)]
    if told.score is not None:
        lines.append(("score", f"{told.score:.2f}"))
    return "\n".join(f"- {name}: {plain_text(words)}" for name, words in lines)
