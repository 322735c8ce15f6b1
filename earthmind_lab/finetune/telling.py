"""A card as Markdown and as HTML; what models said and what things are called stays text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import yaml

from earthmind_lab.evaluate.metrics import LEAST_UNITS
from earthmind_lab.finetune.card import LEAST_DROP, VALIDATION, worse, worst

Cells = Sequence[Sequence[str]]
_MARKUP = re.compile(r"[\\`*_\[\]|~^$]|^[#+=-](?=[#+=-]* |[#+=-]*$)|(?<=^\d)[.)](?= )")
HEADS = {
    "test": "Held out (test set)",
    VALIDATION: "Held out (validation set, by which the best step was chosen)",
    "guard": "What it could do before (guard set)",
}
_COLUMNS = (
    "task", "answers", "examples", "places", "score", "before", "after", "change",
    "without looking", "loss before", "loss after",
)  # fmt: skip
_SCORES = (
    f"Score with its 95 % interval over places (from {LEAST_UNITS} places on; examples without a "
    "place count by picture). Change is after minus before, paired. Without looking: the commonest "
    "answer of the training data; of masks, the whole picture marked. Loss: mean over the tokens "
    "of the wanted answers."
)


def plain_text(text: object) -> str:
    r"""One line of text that Markdown takes for nothing else.

    >>> plain_text("<b>*a*</b>\nb")
    '&lt;b&gt;\\*a\\*&lt;/b&gt; b'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return _MARKUP.sub(r"\\\g<0>", escape(line, quote=False))


class _Markdown:
    """Parts of a page as Markdown."""

    text = staticmethod(plain_text)

    @staticmethod
    def head(level: int, text: str) -> str:
        return f"{'#' * level} {text}\n"

    @staticmethod
    def lines(lines: Sequence[str]) -> str:
        return "".join(f"- {line}\n" for line in lines)

    @staticmethod
    def table(head: Sequence[str], rows: Cells) -> str:
        every = [head, ["---"] * len(head), *rows]
        return "".join(f"| {' | '.join(row)} |\n" for row in every)

    @staticmethod
    def code(text: str) -> str:
        # Indented, not fenced: no text can end it.
        return "".join(f"    {line}\n" for line in text.splitlines())

    @staticmethod
    def pictures(urls: Sequence[str]) -> str:  # noqa: ARG004 - HTML shows them
        return ""


class _Html:
    """The same as HTML."""

    @staticmethod
    def text(text: object) -> str:
        return escape(" ".join(str(text).split()))

    @staticmethod
    def head(level: int, text: str) -> str:
        return f"<h{level}>{text}</h{level}>"

    @staticmethod
    def lines(lines: Sequence[str]) -> str:
        return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"

    @staticmethod
    def table(head: Sequence[str], rows: Cells) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

        return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"

    @staticmethod
    def code(text: str) -> str:
        return f"<details><summary>recipe</summary><pre>{escape(text)}</pre></details>"

    @staticmethod
    def pictures(urls: Sequence[str]) -> str:
        good = [url for url in urls if url.startswith("data:image/jpeg;base64,")]
        return "".join(f"<img alt='' style='margin:4px' src='{escape(url)}'>" for url in good)


def markdown(data: Mapping[str, Any]) -> str:
    """A card for a README."""
    return "\n".join(_page(data, _Markdown))


def short(data: Mapping[str, Any]) -> list[str]:
    """The scores of a card, a line each."""
    found = []
    for name, held in data["sets"].items():
        for row in held["rows"]:
            if row["change"] is not None:
                base = "" if row["baseline"] is None else f", {row['baseline']:.2f} without looking"
                found.append(
                    f"{name}, {row['task']}, {row['kind']}: {row['measure']} "
                    f"{_score(row['before'])} before, {_score(row['after'])} after, on "
                    f"{row['asked']} examples of {row['units']} places{base}"
                )
    return [*found, *_first(data)]


def html(data: Mapping[str, Any]) -> str:
    """A card for a notebook, with the pictures of what got worse."""
    return "".join(_page(data, _Html))


def _page(data: Mapping[str, Any], form: Any) -> Iterator[str]:
    text: Callable[[object], str] = form.text
    yield form.head(1, text(f"{data['name']}: {data['model']} after {data['steps']} steps"))
    yield form.lines([text(line) for line in _first(data)])
    for name, held in data["sets"].items():
        yield form.head(2, HEADS[name])
        yield form.lines([text(line) for line in _of_set(held)])
        if held["rows"]:
            yield form.table(_COLUMNS, [[text(cell) for cell in _cells(r)] for r in held["rows"]])
            yield form.lines([_SCORES])
            yield from _worse(data.get("pictures", {}).get(name, {}), held, form)
    yield form.head(2, "Data that it learned from")
    yield form.lines([text(line) for line in _of_data(data["data"])])
    yield form.head(2, "How it was made")
    yield form.lines([text(line) for line in _made(data)])
    yield form.code(yaml.safe_dump(data["recipe"], sort_keys=False, allow_unicode=True))


def _first(data: Mapping[str, Any]) -> Iterator[str]:
    if not data["sets"]:
        yield (
            "No example was held out: whether it got better or worse at anything isn't known. "
            "Give a test set and a guard set."
        )
    elif "guard" not in data["sets"]:
        yield "There was no guard set: what it could do before and can't any more isn't known."
    fell = [
        f"{row['task']}, {row['kind']} ({name})"
        for name, held in data["sets"].items()
        for row in worse(held["rows"])
    ]
    if data["sets"]:
        yield f"Got worse: {'; '.join(fell)}" if fell else "No score got worse."
    if data["remark"]:
        yield data["remark"]


def _of_set(held: Mapping[str, Any]) -> Iterator[str]:
    yield f"{held['asked']} of {held['examples']} examples were asked, before and after."
    failed = [row for row in held["outcomes"] if "failed" in {*row["before"], *row["after"]}]
    if failed:
        names = ", ".join(row["id"] for row in failed[:3])
        yield f"{len(failed)} could not be asked and are in no score: {names}"
    if held["shared"]:
        yield (
            f"{held['shared']} were left out: their files, scenes or ground are in the training "
            "data, too."
        )


def _cells(row: Mapping[str, Any]) -> list[str]:
    loss = row["loss"] or {}
    cells = [
        row["task"], row["kind"], row["asked"], row["units"], row["measure"], _score(row["before"]),
        _score(row["after"]), _score(row["change"], sign="+"), _number(row["baseline"]),
        _number(loss.get("before")), _number(loss.get("after")),
    ]  # fmt: skip
    for place, when in ((5, "before"), (6, "after")):
        value = row.get("balanced", {}).get(when)
        if value is not None:
            cells[place] += f"; balanced {value:.2f}"
    return [str(cell) for cell in cells]


def _score(score: Mapping[str, Any] | None, sign: str = "") -> str:
    if score is None:
        return "–"
    value = format(score["value"], f"{sign}.2f")
    if score["low"] is None:
        return value
    return f"{value} ({score['low']:{sign}.2f} to {score['high']:{sign}.2f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _worse(pictures: Mapping[str, Any], held: Mapping[str, Any], form: Any) -> Iterator[str]:
    told = worst(held["outcomes"])
    if not told:
        yield form.lines([f"No example got worse by {LEAST_DROP:g} or more."])
        return
    yield form.head(3, "Examples that got worse most")
    for row in told:
        parts = [f"{row['id']} ({row['task']}, {row['kind']})", _fall(row)]
        if "wanted" in row:
            parts.append(f"wanted: {row['wanted']}")
            parts += [f"{w}: {row[w]['said']}" for w in ("before", "after") if "said" in row[w]]
        yield form.lines([" · ".join(form.text(part) for part in parts)])
        if drawn := form.pictures(pictures.get(row["id"], [])):
            yield drawn


def _fall(row: Mapping[str, Any]) -> str:
    key = "loss" if row["kind"] == "text" else "score"
    return f"{key} {row['before'][key]:.2f} before, {row['after'][key]:.2f} after"


def _of_data(about: Mapping[str, Any]) -> Iterator[str]:
    tasks = ", ".join(f"{count} {task}" for task, count in about["tasks"].items())
    yield f"{about['examples']} examples: {tasks}"
    for name, count in about["licences"].items():
        yield f"Licence: {name} ({count})"
    for name, count in about["attributions"].items():
        yield f"By: {name} ({count})"
    opened = about["baseline"]
    for key, answer in opened["answers"].items():
        yield f"Commonest answer, {key}: {answer}"
    if opened["opened"] < opened["of"]:
        yield f"The commonest answers are those of {opened['opened']} examples."


def _made(data: Mapping[str, Any]) -> Iterator[str]:
    took = f"{data['seconds']:.0f} s in the last process"
    yield f"Ended: {data['ended']}; {took}; seed {data['seed']}"
    about = data["environment"]
    yield f"On {about['device']} with {about['threads']} threads, {data['processes']} processes"
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    yield f"Python {about['python']}, {versions}"
    yield f"Weights before, SHA-256: {data['base']} ({data['model_licence'] or 'no licence said'})"
    yield f"Adapter, SHA-256: {data['adapter']}"
