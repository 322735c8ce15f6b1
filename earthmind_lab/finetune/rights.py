"""Licences and names behind training data, and what they say about handing on what was learned.

Words are read, not law: a licence that isn't said, or forbids changed works, stops a publication;
"share alike" and "non-commercial" go along with it. A person must still judge.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.examples import Examples

NOT_SAID = "not said"
_SILENT = re.compile(r"(not said|unknown|none|various|other|noassertion|n/?a|\?|-)?", re.I)
_FORBIDS = re.compile(
    r"\bND\b|no.?deriv|all rights reserved|proprietary|"
    r"\b(?:no|not for|without) (?:re-?distribution|redistribution|sharing)|confidential",
    re.I,
)
_ALIKE = re.compile(r"\bSA\b|share.?alike|\bODbL\b|\b[AL]?GPL", re.I)
_PRIVATE = re.compile(r"\bNC\b|non.?commercial|research (?:use )?only", re.I)


def rights_of(examples: Examples) -> dict[str, Any]:
    """How many examples there are of each task, licence and name; no picture is opened."""
    tasks, licences, owners = Counter[str](), Counter[str](), Counter[str]()
    for index in range(len(examples)):
        info = examples.info(index)
        tasks[info.task] += 1
        licences[info.licence or NOT_SAID] += 1
        owners.update([info.attribution] if info.attribution else [])
    return {
        "examples": len(examples),
        "tasks": dict(tasks.most_common()),
        "licences": dict(licences.most_common()),
        "attributions": dict(owners.most_common()),
    }


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What several licences say together."""

    licences: tuple[str, ...]
    alike: str | None
    """The one that must be carried over; None = none asks for it."""
    commercial: bool
    """Whether none of them says non-commercial."""

    @property
    def words(self) -> str:
        """Of the result, in a line.

        >>> terms({"CC-BY-SA-4.0": 3, "CC-BY-NC-4.0": 1}, "").words
        'CC-BY-SA-4.0 (share alike); non-commercial use only'
        """
        listed = "; ".join(self.licences)
        parts = [f"{self.alike} (share alike)" if self.alike else f"as its sources: {listed}"]
        return "; ".join([*parts, *([] if self.commercial else ["non-commercial use only"])])


def terms(licences: Mapping[str, int], model: str) -> Terms:
    """What holds for a model that was trained on data of some licences.

    Args:
        licences: With how many examples have each; several in one are parted by ``;``.
        model: Licence of the weights that the training began from.

    Raises:
        EarthMindError: One isn't said or forbids it, or two want to be carried over alone.
    """
    silent = sum(count for name, count in licences.items() if not _parts([name]))
    whole = sum(licences.values())
    if silent:
        raise EarthMindError(
            f"{silent} of {whole} training examples say no licence, so what was learned from them "
            "can't be handed on.",
            change="the licence where the examples are opened: licence= or data: licence, or "
            "'license' in the entries; then train again",
        )
    held = _parts([*licences, model])
    for name in held:
        if _FORBIDS.search(name):
            raise EarthMindError(
                "A licence of the training data forbids to hand on what was made of them.",
                found=name,
                change="training without these examples",
            )
    alike = [name for name in held if _ALIKE.search(name)]
    if len(alike) > 1:
        raise EarthMindError(
            "Two licences both want to be the only one of what is made of them.",
            found=" and ".join(alike),
            change="training with examples of one of them",
        )
    return Terms(
        licences=tuple(held),
        alike=alike[0] if alike else None,
        commercial=not any(_PRIVATE.search(name) for name in held),
    )


def _parts(names: Iterable[str]) -> list[str]:
    """Single licences, each once; those that say nothing are left out.

    >>> _parts(["CC0-1.0; CC-BY-4.0", "unknown", "CC0-1.0"])
    ['CC0-1.0', 'CC-BY-4.0']
    """
    single = (part.strip() for name in names for part in name.split(";"))
    return list(dict.fromkeys(part for part in single if not _SILENT.fullmatch(part)))
