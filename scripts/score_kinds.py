"""What earthmind-nano answers to each kind of question, on simulated scenes it never learned from.

`python scripts/score_kinds.py out/nano` asks `out/nano/model` and prints a table. Simulated truth
is exact, and simulated scenes are easier than real ones: this says what the model has learned to
speak about, not how well it knows the ground.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from nano_data import Dates, Window, Windows
from nano_model import DATES, prompt_of
from nano_plan import plan
from nano_recipe import masks_of, views_of
from nano_text import change_lines, lines

from earthmind_lab.engine import load_engine
from earthmind_lab.engine.base import Engine
from earthmind_lab.evaluate.asking import yes_or_no
from earthmind_lab.evaluate.controls import blank
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.report import table_lines
from earthmind_lab.exchange import Options
from earthmind_lab.finetune.examples import Example, ExampleInfo
from earthmind_lab.finetune.scoring import kind_of, same, score_of
from earthmind_lab.progress import bar

SHOWN = ("optical", "sar", "both", *DATES)
EACH = 12
"""Questions about one scene by one choice of sensors, of kinds as often as in training."""
SEED = 25
LONGEST = 48
"""Tokens; the longest sentence that is taught has half of them."""


def exam(data: Windows, count: int) -> Iterator[tuple[str, Example]]:
    """Questions about scenes and dates that were kept out, with the sensors shown."""
    for number in range(count):
        for place, sensors in enumerate(SHOWN):
            rng = np.random.default_rng([SEED, number, place])
            window: Window | Dates
            if sensors in DATES:
                window = data.held_dates(number)
                found = change_lines(window, rng, EACH)
            else:
                window = data.held(number)
                found = lines(window, sensors, rng, EACH)
            views = views_of(window, sensors)
            for line in {line.question: line for line in found}.values():
                yield (
                    sensors,
                    Example(
                        info=ExampleInfo(id=f"{number} {sensors} {line.question}", task=line.kind),
                        prompt=prompt_of(line, views, (), rng),
                        reply=line.answer,
                        **masks_of(line, window, sensors),
                    ),
                )


def answered(engine: Engine, example: Example) -> float:
    """How right the answer is, 0 to 1."""
    reply = engine.generate(example.prompt, Options(max_new_tokens=LONGEST))
    score = score_of(example, reply)
    if score is not None:
        return score
    if example.info.task == "describe":
        said, wanted = named(reply.text), named(example.reply)
        return len(said & wanted) / len(said | wanted)
    return float(same(reply.text) == same(example.reply))


def named(text: str) -> set[str]:
    """Covers that a description names.

    >>> sorted(named("Mostly crops, some built-up areas."))
    ['built-up areas', 'crops']
    """
    return {name for name in CLASSES if re.search(rf"\b{name}\b", text, re.IGNORECASE)}


def verdict(form: str, reply: str) -> str:
    """What of an answer is scored, so that the commonest answer is scored by the same.

    >>> verdict("yes/no", "Yes, there is water."), verdict("short", "About a third.")
    ('True', 'about a third')
    """
    if form == "yes/no":
        return str(yes_or_no(reply))
    return "" if form == "nothing" else same(reply)


FORMS = {
    ("describe", "short"): "describe (covers named: in common, of all)",
    ("describe", "text"): "describe (covers named: in common, of all)",
    ("count", "short"): "count (the number)", ("count", "yes/no"): "count (any at all)",
    ("outside", "text"): "outside what it knows (says so)",
    ("outside", "short"): "outside what it knows (says so)",
    ("change", "short"): "change (what, when)", ("change", "yes/no"): "change (yes or no)",
}  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path, help="of `make nano`")
    parser.add_argument("--scenes", type=int, default=32, help="of those kept out")
    asked = parser.parse_args()
    data = Windows(asked.work / "simulated", (), share_real=0.0, held=plan().held)
    engine = load_engine(asked.work / "model", device="cpu")
    right, dark = defaultdict[Any, list[float]](list), defaultdict[Any, list[float]](list)
    wanted = defaultdict[Any, Counter[str]](Counter)
    questions = list(exam(data, asked.scenes))
    with bar(len(questions), unit="question", desc="asking") as progress:
        for sensors, example in questions:
            form = kind_of(example)
            name = FORMS.get((example.info.task, form), f"{example.info.task} ({form})")
            key = (name, sensors)
            right[key].append(answered(engine, example))
            prompt = replace(example.prompt, views=blank(example.prompt.views))
            dark[key].append(answered(engine, replace(example, prompt=prompt)))
            wanted[key][verdict(form, example.reply)] += 1
            progress.update()
    order = sorted(right, key=lambda key: (key[0], SHOWN.index(key[1])))
    table = [
        {
            "question": name,
            "sensors": sensors,
            "asked": len(right[name, sensors]),
            "right, or IoU": float(np.mean(right[name, sensors])),
            "black pictures": float(np.mean(dark[name, sensors])),
            "commonest answer": max(wanted[name, sensors].values()) / len(right[name, sensors])
            if "(mask)" not in name
            else None,
        }
        for name, sensors in order
    ]
    print("\n".join(table_lines(table)))


if __name__ == "__main__":
    main()
