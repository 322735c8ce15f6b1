"""What a text claims about the ground: presence, counts, areas, shares, main cover.

Reading only: no mask is looked at here, `evidence` does that. English, and on purpose narrow:
a sentence that can't be read with certainty yields a statement without label, which evidence
calls uncheckable, never a guess.

>>> for said in read_claims("Water covers 30 % of the scene. There are 3 ships.", "Describe it."):
...     print(said.kind, said.label, said.value)
share water 0.3
count ships 3.0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["presence", "count", "area", "share", "cover", "answer"]

COVERS = {
    "water": r"(?:open )?water(?: bod(?:y|ies))?|lakes?|ponds?|rivers?|sea|ocean"
    r"|flood(?:ed|ing|s)?(?: (?:areas?|fields?|land))?",
    "trees": r"trees?(?: cover)?|forests?|woodlands?|woods",
    "crops": r"crops?|croplands?|farmlands?|(?:agricultural )?fields?|agricultur\w+(?: land)?",
    "built-up areas": r"built[- ]up(?: areas?| land)?|buildings?|houses|settlements?"
    r"|urban(?: areas?| land)?|towns?|cit(?:y|ies)",
    "bare ground": r"bare(?: ground| soil| land| rock)?|sand",
    "snow": r"snow(?: cover| and ice)?|ice",
}
"""Land covers that texts name, by the word that a follow-up asks for."""

UNITS_M2 = {"ha": 1e4, "km": 1e6, "m": 1.0}

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
).split()
_NO_NOUNS = (
    "pixels? percent cents? metres? meters? kilomet\\w+ hectares? square hours? days? weeks? "
    "months? years? bands? sensors? times? degrees? objects? is was has as this us"
).replace(" ", "|")
_COVER = re.compile(
    r"\b(?:" + "|".join(f"(?P<c{i}>{form})" for i, form in enumerate(COVERS.values())) + r")\b",
    re.IGNORECASE,
)
_AREA = re.compile(
    rf"(?P<number>{_NUMBER})\s*(?:(?P<ha>ha\b|hectares?\b)"
    r"|(?P<km>km(?:²|2\b|\^2)|sq\.? ?km\b|square kilomet(?:re|er)s?\b)"
    r"|(?P<m>m(?:²|2\b|\^2)|sq\.? ?m\b|square met(?:re|er)s?\b))",
    re.IGNORECASE,
)
_SHARE = re.compile(rf"(?P<number>{_NUMBER})\s*(?:%|per ?cent\b)", re.IGNORECASE)
_COUNT = re.compile(
    rf"(?<![\w.,-])(?P<number>{_NUMBER}|{'|'.join(_WORDS)})\s+"
    rf"(?:(?:large|small|separate|distinct|visible|main|big|different)\s+)*"
    rf"(?P<noun>(?!(?:{_NO_NOUNS})\b)[a-z][a-z-]+s)\b",
    re.IGNORECASE,
)
_BARE_COUNT = re.compile(
    rf"^(?:there (?:is|are)\s+)?(?P<number>{_NUMBER}|{'|'.join(_WORDS)})\.?$", re.IGNORECASE
)
_ABSTAINS = re.compile(
    r"\b(?:can['’]?t|can ?not|unable|not sure|unclear|(?:do not|don['’]?t) know|i know)\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:no|not|without|none|neither|nor|lacks?|absent)\b|n['’]t\b", re.I)
_NEGATED_AFTER = re.compile(
    r"^\s*(?:is|are|was|were|can|could)?\s*(?:not\b|n['’]t\b|absent\b)", re.IGNORECASE
)
_RESTART = re.compile(
    r"\b(?:some|mostly|mainly|many|much|there (?:is|are)(?! no))\b", re.IGNORECASE
)
_MOSTLY = re.compile(
    r"\b(?:mostly|mainly|predominantly|dominated by|largely|(?:main|dominant)[\w ]* is)\s+"
    r"(?:the |by |of |covered (?:by|with|in) )*$",
    re.IGNORECASE,
)
_ASKS_COVER = re.compile(
    r"\b(?:main|dominant|most common)\b.*\b(?:cover|class)|covers most|mostly", re.IGNORECASE
)
_ASKS_PRESENCE = re.compile(
    r"^(?:is|are) there (?:a |an |any |some )?(?P<a>[\w -]+?)(?: (?:here|in|on|at|visible)\b.*)?\?"
    r"|^(?:do|can) you see (?:a |an |any |some )?(?P<b>[\w -]+?)(?: (?:here|in|on|at)\b.*)?\?"
    r"|^does (?:the|this) \w+ (?:contain|have|show) (?:a |an |any |some )?(?P<c>[\w -]+?)\?"
    r"|^(?:is|are) (?:the )?(?P<d>[\w -]+?) (?:visible|present)\b[^?]*\?",
    re.IGNORECASE,
)
_COMPARES = re.compile(r"\b(?:more|less|fewer|larger|smaller|than)\b", re.IGNORECASE)
_ASKS_COUNT = re.compile(r"\bhow many (?P<noun>[\w -]+?) (?:are|do|can|is)\b", re.IGNORECASE)
_ASKS_MASK = re.compile(
    r"^(?:please )?(?:segment|mark|outline|map|delineate|highlight|find|show|where)\b", re.I
)
_DENIES = re.compile(
    r"^\s*(?:no\b|none\b|there (?:is|are) no\b|i (?:see|find) no\b)", re.IGNORECASE
)
_YES_NO = re.compile(r"^\s*(?P<word>yes|no)\s*(?:[,.:;!-]+\s*|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that a text says."""

    text: str
    """The sentence, as written."""
    kind: Kind
    label: str | None
    """What it is about, in the words of a follow-up; None when the text leaves it open."""
    value: float | bool | None = None
    """Presence: bool. Count: number. Area: square metres. Share: 0 to 1. Cover: None."""
    rounding: float = 0.0
    """Half a unit of the last digit that was written, in the unit of `value`."""


def canonical(label: str) -> str:
    """The word by which two names of one thing are compared.

    >>> canonical("The lakes"), canonical("Ships"), canonical("open water")
    ('water', 'ship', 'water')
    """
    plain = re.sub(r"^(?:the|a|an|any|some|all)\s+", "", label.strip().strip(".:,").lower())
    match = _COVER.fullmatch(plain)
    if match:
        return _cover_of(match)
    return plain[:-1] if plain.endswith("s") and not plain.endswith("ss") else plain


def canonical_words(question: str) -> set[str]:
    """Every label that a question names, in canonical form."""
    words = question.strip(" .?!").split()
    runs = (" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, i + 4))
    return {canonical(run) for run in runs}


def asks_for_mask(question: str) -> bool:
    """Whether a question asks to mark something, so that a reply without a mask is a refusal."""
    return _ASKS_MASK.match(question.strip()) is not None


def denies(text: str) -> bool:
    """Whether a reply to "Segment the …" says that there is none.

    >>> denies("There is no bridge here."), denies("I can't tell.")
    (True, False)
    """
    return _DENIES.match(text) is not None and not _ABSTAINS.search(text)


def read_claims(text: str, question: str, labels: Iterable[str] = ()) -> list[Statement]:
    """What a reply claims.

    Args:
        text: The reply.
        question: What was asked; gives the label that short replies leave out.
        labels: Names of the objects that the reply marked.

    Returns:
        Statements in the order of the text, each once.
    """
    topic = _topic(question, labels)
    found: list[Statement] = []
    for sentence in _sentences(text):
        if not _ABSTAINS.search(sentence):
            found += _in_sentence(sentence, question, topic)
    found += _short_reply(text, question, found)
    marked = {canonical(said.label) for said in found if said.label}
    found += [
        Statement(text=label, kind="presence", label=label, value=True)
        for label in dict.fromkeys(labels)
        if label and canonical(label) not in marked
    ]
    return list(dict.fromkeys(found))


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip(" .")]


def _in_sentence(sentence: str, question: str, topic: str | None) -> list[Statement]:
    body = _YES_NO.sub("", sentence)
    numbers = [said for clause in _clauses(body) for said in _numbers(clause, body, topic)]
    bare = _BARE_COUNT.match(body)
    asked = _ASKS_COUNT.search(question)
    if bare and asked and not numbers:
        value = _value(bare["number"])
        return [Statement(text=sentence, kind="count", label=asked["noun"], value=value)]
    if numbers:
        return numbers
    return list(_presences(body, sentence, question))


def _clauses(sentence: str) -> list[str]:
    """Parts of a sentence with at most one group of digits each, as far as that can be had."""
    number = re.compile(rf"\d|\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
    clauses: list[str] = []
    for piece in re.split(r";|,(?!\d)|\b(?:and|while|but)\b", sentence):
        if clauses and not (number.search(clauses[-1]) and number.search(piece)):
            clauses[-1] += "," + piece
        else:
            clauses.append(piece)
    return clauses


def _numbers(clause: str, sentence: str, topic: str | None) -> Iterator[Statement]:
    taken: list[tuple[int, int]] = []
    label = _label_of(clause, sentence, topic)
    for match in _AREA.finditer(clause):
        size = next(UNITS_M2[unit] for unit in UNITS_M2 if match[unit])
        taken.append(match.span())
        yield _number("area", sentence, label, match["number"], size)
    for match in _SHARE.finditer(clause):
        taken.append(match.span())
        yield _number("share", sentence, label, match["number"], 0.01)
    for match in _COUNT.finditer(clause):
        if not any(start <= match.start("number") < end for start, end in taken):
            yield _number("count", sentence, match["noun"].lower(), match["number"], 1.0)


def _number(kind: Kind, text: str, label: str | None, number: str, size: float) -> Statement:
    digits = len(number.partition(".")[2]) if "." in number else 0
    # A value of two digits or more that ends in zeros was most likely rounded to them.
    zeros = 0 if digits or kind == "count" else len(number) - len(number.rstrip("0"))
    zeros = min(zeros, max(0, len(number.replace(",", "")) - 1))
    rounding = 0.0 if kind == "count" else 0.5 * 10.0 ** (zeros - digits) * size
    value = round(_value(number) * size, 10)
    return Statement(
        text=text, kind=kind, label=label, value=value, rounding=round(rounding, 10)
    )  # fmt: skip


def _presences(body: str, sentence: str, question: str) -> Iterator[Statement]:
    for clause in re.split(r"[;:,]|\b(?:but|while|however|though)\b", body):
        for match in _COVER.finditer(clause):
            label, before = _cover_of(match), clause[: match.start()]
            alone = not before.strip() and not clause[match.end() :].strip(" .")
            if _MOSTLY.search(before) or (alone and _ASKS_COVER.search(question)):
                yield Statement(text=sentence, kind="cover", label=label)
                continue
            starts = [m.end() for m in _RESTART.finditer(before)]
            denied = _NEGATION.search(before, starts[-1] if starts else 0)
            after = _NEGATED_AFTER.match(clause[match.end() :])
            there = not (denied or after)
            yield Statement(text=sentence, kind="presence", label=label, value=there)


def _short_reply(text: str, question: str, found: list[Statement]) -> list[Statement]:
    """What a leading yes or no says, unless the sentence itself says it already."""
    word = _YES_NO.match(text)
    if not word:
        return []
    asked = _ASKS_PRESENCE.match(question.strip())
    if asked is None or _COMPARES.search(question):
        said = Statement(text=text, kind="answer", label=None, value=word["word"].lower() == "yes")
        return [] if found else [said]
    label = next(group for group in asked.groups() if group)
    cover = _COVER.fullmatch(label)
    label = _cover_of(cover) if cover else label
    if any(s.label and canonical(s.label) == canonical(label) for s in found):
        return []
    there = word["word"].lower() == "yes"
    return [Statement(text=text, kind="presence", label=label, value=there)]


def _label_of(clause: str, sentence: str, topic: str | None) -> str | None:
    """The one cover that a clause names, else the sentence's, else what was asked about."""
    for part in (clause, sentence):
        names = list(dict.fromkeys(_cover_of(match) for match in _COVER.finditer(part)))
        if names:
            return names[0] if len(names) == 1 else None
    return topic


def _topic(question: str, labels: Iterable[str]) -> str | None:
    names = list(dict.fromkeys(_cover_of(match) for match in _COVER.finditer(question)))
    names = names or list(dict.fromkeys(label for label in labels if label))
    return names[0] if len(names) == 1 else None


def _cover_of(match: re.Match[str]) -> str:
    return next(name for i, name in enumerate(COVERS) if match[f"c{i}"])


def _value(number: str) -> float:
    word = number.lower()
    return float(_WORDS.index(word)) if word in _WORDS else float(number.replace(",", ""))
