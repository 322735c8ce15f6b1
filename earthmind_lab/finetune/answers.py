"""Answers that a model could learn by heart instead of looking."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from earthmind_lab.finetune.examples import Example

TRAP, LEAST = 0.9, 10
"""Share of one answer from which it can be learned without looking; under so many answers nobody
can tell."""
_YES_NO = re.compile(r"\s*(yes|no)\b", re.IGNORECASE)


class Answers:
    """What is asked and answered, gathered example by example."""

    def __init__(self) -> None:
        self._same: dict[tuple[object, ...], list[tuple[str, str]]] = defaultdict(list)
        self._by_question: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, example: Example) -> None:
        """One example."""
        prompt, info = example.prompt, example.info
        question, reply = _plain(prompt.text), _plain(example.reply)
        # Without named pictures nobody can tell whether two questions are about the same thing.
        if info.pictures or not prompt.views:
            marked = tuple(hash(region.mask.tobytes()) for region in prompt.regions)
            place = info.place.wkb if info.place is not None else None
            asked = (info.pictures, place, question, prompt.history, marked)
            self._same[asked].append((info.id, reply))
        said = _YES_NO.match(example.reply)
        if said:
            self._by_question[question][said[1].lower()] += 1

    @property
    def yes_no(self) -> dict[str, int]:
        """How many answers say yes and no."""
        total = sum(self._by_question.values(), Counter[str]())
        return {word: total[word] for word in ("yes", "no")}

    def warnings(self) -> list[str]:
        """Traps and repetitions."""
        return [*self._traps(), *self._repeated()]

    def _traps(self) -> list[str]:
        total = self.yes_no
        count, most = sum(total.values()), max(total, key=lambda word: total[word])
        found = []
        if count >= LEAST and total[most] >= TRAP * count:
            found.append(
                f"{total[most]} of {count} yes/no answers are {most}: a model that always says "
                f"{most} is right in {total[most] / count:.0%} without looking"
            )
            return found
        for question, said in sorted(self._by_question.items()):
            count = sum(said.values())
            if count >= LEAST and len(said) == 1:
                found.append(
                    f"The answer to {question!r} is always {next(iter(said))} ({count} times)"
                )
        return found[:5] + ([f"… and {len(found) - 5} more questions"] if len(found) > 5 else [])

    def _repeated(self) -> list[str]:
        twice, against = [], []
        for answers in self._same.values():
            said = {_verdict(reply) for _, reply in answers}
            if {"yes", "no"} <= said:
                against.append(", ".join(name for name, _ in answers[:3]))
            elif len({reply for _, reply in answers}) < len(answers):
                twice.append(", ".join(name for name, _ in answers[:3]))
        found = []
        if twice:
            found.append(f"{len(twice)} questions come twice with one answer, such as {twice[0]}")
        if against:
            found.append(f"{len(against)} questions are answered yes and no, such as {against[0]}")
        return found


def _verdict(reply: str) -> str | None:
    said = _YES_NO.match(reply)
    return said[1].lower() if said else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
