"""A talk as a notebook that asks it again and says of each answer whether it is the same.

    save_notebook(session.subject(), "spain.ipynb")

Built upon `as_python`: what a catalog, a model or a user wrote is a literal in a code cell, never
Markdown, which a browser would show as HTML. The file is nbformat 4.5, written as plain data: it
needs no Jupyter to be made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.as_python import Steps, own_files, steps_to
from earthmind_lab.errors import PromptError
from earthmind_lab.record_parts import BEFORE
from earthmind_lab.whole_file import whole_file

if TYPE_CHECKING:
    from earthmind_lab.session.subject import SaidTurn, Subject

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_NO_WORD = re.compile(r"[^\w ,-]+")


def save_notebook(subject: Subject, path: str | Path) -> Path:
    """Write the talk about a subject as a notebook; the file appears complete or not at all.

    Args:
        subject: Whose talk, the branch that one reads.
        path: Ends in .ipynb.

    Raises:
        PromptError: As `as_notebook`, or another ending.
        EarthMindError: The file can't be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".ipynb":
        raise PromptError(f"{path.name!r} is no name of a notebook.", change="talk.ipynb")
    text = json.dumps(as_notebook(subject), indent=1, ensure_ascii=False) + "\n"
    with whole_file(path) as draft:
        # Half a surrogate pair, which UTF-8 can't write, stands in literals as an escape.
        draft.write_text(text, encoding="utf-8", errors="replace")
    return path


def as_notebook(subject: Subject) -> dict[str, Any]:
    """The talk about a subject as a notebook.

    Args:
        subject: Whose talk, the branch that one reads. Turns without an answer are left out, and
            where the code would give another answer, a line says so.

    Returns:
        A notebook of nbformat 4.5 as plain data, without outputs.

    Raises:
        PromptError: Nothing was answered yet, a picture was no file, or there is code for none of
            the answers; see `as_python`.
    """
    turns = [turn for turn in subject.talk if turn.state == "done" and turn.record is not None]
    if not turns:
        raise PromptError(
            f"Nothing was answered about {subject.name!r} yet.", change="ask something first"
        )
    if subject.picture is not None and not Path(subject.picture).is_file():
        raise PromptError(
            "The picture is no file, so no notebook can open it.",
            change="save it, then open_picture() with its path",
        )
    made = [_steps(subject, turn) for turn in turns]
    held = [turn for turn, steps in zip(turns, made, strict=True) if isinstance(steps, Steps)]
    if not held:
        raise next(each for each in made if isinstance(each, PromptError))
    cells = [_intro(subject, held), *_talk_cells(turns, made)]
    for number, cell in enumerate(cells, start=1):
        cell["id"] = f"cell-{number}"
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": _METADATA, "cells": cells}


def _steps(subject: Subject, turn: SaidTurn) -> Steps | PromptError:
    """What leads to an answer, or why no code does."""
    try:
        return steps_to(subject, turn.id)
    except PromptError as error:
        return error


def _intro(subject: Subject, turns: list[SaidTurn]) -> dict[str, Any]:
    """What is needed and what comes of it; the turns are those that are asked."""
    name = " ".join(_NO_WORD.sub(" ", subject.name).split()) or "an area"
    answers = "1 answer" if len(turns) == 1 else f"{len(turns)} answers"
    where = "the picture's file" if subject.picture else f"the {_sources(turns)} named below"
    return _markdown(
        f"# {name}: asked again",
        f"Needs `earthmind_lab[model]` and {where}. {answers}; each takes as long as it took when "
        "it was asked, the first one also the loading of pixels and model.",
        "Every question says whether its answer is the recorded one, by the answer's hash.",
    )


def _sources(turns: list[SaidTurn]) -> str:
    """Where their pixels come from."""
    chips = [turn.record["chip"] for turn in turns if turn.record is not None]
    dates = [*chips, *(chip[BEFORE] for chip in chips if BEFORE in chip)]
    found = {"catalogs" if own_files(date) is None else "files" for date in dates}
    return " and ".join(sorted(found))


def _talk_cells(turns: list[SaidTurn], made: list[Steps | PromptError]) -> Iterator[dict[str, Any]]:
    """Cells that load and ask; a talk goes on as long as the model had read what was asked."""
    before: Steps | None = None
    yield _code("import earthmind_lab as em", "from shapely.geometry import shape")
    for number, (turn, steps) in enumerate(zip(turns, made, strict=True), start=1):
        if isinstance(steps, PromptError):
            yield _markdown(f"Answer {number} is left out. {steps.asked}")
            continue
        goes_on = before is not None and _goes_on(before, steps)
        if not goes_on:
            if steps.pixels and (before is None or before.pixels != steps.pixels):
                yield _markdown("## Pixels")
                yield _code(*steps.pixels)
            yield _markdown("## Questions" if before is None else "## Another talk")
            yield _code(*steps.regions(), steps.talk)
            earlier = [steps.ask(each, answer=False) for each in steps.asked[:-1]]
            if earlier:
                yield _code(*earlier)
        elif before is not None and len(steps.shapes) > len(before.shapes):
            yield _code(*steps.regions(len(before.shapes) + 1))
        yield _code(steps.ask(turn, answer=True), *_checked(turn, number))
        before = steps


def _goes_on(before: Steps, now: Steps) -> bool:
    """Whether a talk that has asked the one can ask the last of the other next."""
    return (
        (before.pixels, before.talk) == (now.pixels, now.talk)
        and before.asked == now.asked[:-1]
        and before.shapes == now.shapes[: len(before.shapes)]
    )


def _checked(turn: SaidTurn, number: int) -> list[str]:
    assert turn.record is not None
    return [
        f"recorded = {str(turn.record['answer_hash'])!r}",
        "same = answer.record.answer_hash == recorded",
        f'print("Answer {number}:", "as recorded" if same else "not as recorded")',
        "answer",
    ]


def _markdown(*paragraphs: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": "\n\n".join(paragraphs)}


def _code(*lines: str) -> dict[str, Any]:
    source = "\n".join(lines)
    return {
        "cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [],
        "source": source,
    }  # fmt: skip
