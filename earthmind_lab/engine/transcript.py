"""From token ids to the text a user sees: increments, the stop rule, marks and their labels.

Raw text is what the tokenizer decodes; visible text is raw text without control strings and
without object marks. Visible text only ever grows while an answer is written, so that the
increments of an ask add up to the text of its reply. Only where an answer begins anew and comes out
otherwise than what was handed out (in other company a narrow dtype rounds otherwise), nothing more
is handed out: nobody can take words back, and the reply has the text right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from earthmind_lab.engine.base import StopRule

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for a character whose last bytes are still to come."""
NO_LABEL = "object"
"""Label of an object that the text does not name."""
LONGEST_LABEL = 8
"""Words; a longer clause is no name."""

_BEFORE_MARK = " \t\n:,;"
_LEADING = frozenset(
    "sure ok okay yes here is are the a an it there they and or also this these that those i we "
    "see found find of its was were".split()
)
_TRAILING = frozenset(
    "is are was were be at as here shown marked segmented highlighted mask masks segmentation "
    "result by in with it this the".split()
)
_FILLERS = _LEADING | _TRAILING


class Transcript:
    """The text of one answer while its tokens arrive.

    Args:
        decode: Text of token ids, control tokens included.
        stop: When the answer ends and what is hidden.
        handed_out: Text of an earlier attempt at the same answer; only what follows it is
            handed out.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stop: StopRule, *, handed_out: str = ""
    ) -> None:
        self.ids: list[int] = []
        self._decode, self._stop = decode, stop
        self._raw = ""
        self._context = 0  # first id of the window that is decoded anew
        self._read = 0  # ids before this one are in `_raw`
        self._emitted = handed_out

    def append(self, token_id: int) -> bool:
        """Add a token.

        Returns:
            True when it ends the answer.
        """
        self.ids.append(token_id)
        # A window of ids is decoded twice instead of the whole answer: decoders that put blanks
        # between words need the token before, and a character may span several tokens.
        before = self._decode(self.ids[self._context : self._read])
        window = self._decode(self.ids[self._context :])
        ended = token_id in self._stop.ids
        if not window.endswith(UNFINISHED):
            self._raw += window[len(before) :]
            self._context, self._read = self._read, len(self.ids)
        text = self._raw.strip("\n")
        return ended or any(text.endswith(stop) for stop in self._stop.strings)

    def increment(self) -> str:
        """Visible text that is certain and was not handed out before."""
        text = visible(_certain(self._raw, self._stop), self._stop)
        return self._hand_out(text.rstrip(_BEFORE_MARK))

    def finish(self) -> tuple[str, str]:
        """End the answer.

        Returns:
            The last increment and the whole visible text.
        """
        self._raw = self._decode(self.ids)
        text = visible(self._raw, self._stop).rstrip()
        return self._hand_out(text), text

    @property
    def raw(self) -> str:
        """Everything decoded so far."""
        return self._raw

    @property
    def said(self) -> str:
        """Everything decoded so far with its marks, without what ends an answer."""
        text = self._raw
        for control in (*self._stop.strings, *self._stop.hidden):
            text = text.replace(control, "")
        return text.strip()

    def _hand_out(self, text: str) -> str:
        if not text.startswith(self._emitted):  # a decoder that rewrites: the reply has it right
            return ""
        new = text[len(self._emitted) :]
        self._emitted = text
        return new


def visible(raw: str, stop: StopRule) -> str:
    """Raw text without control strings and marks.

    A mark goes together with the blanks and the colon or comma that lead to it, so that no gap
    is left behind.

    >>> visible("Sure, the water: [SEG].<|end|>", StopRule(strings=("<|end|>",)))
    'Sure, the water.'
    >>> visible("The lake [SEG] and two ships [SEG], [SEG].", StopRule())
    'The lake and two ships.'
    """
    return "".join(_pieces(raw, stop)).lstrip()


@dataclass(frozen=True, kw_only=True)
class Name:
    """What a mark was called."""

    label: str
    span: tuple[int, int] | None
    """Where the visible text says so; None when it does not."""


def names(raw: str, stop: StopRule) -> tuple[Name, ...]:
    """What the text calls each marked object.

    The name is the clause directly before the mark without articles, fillers ("sure", "here
    is") and the verb that leads to the mark. A mark that follows another with nothing but
    punctuation or "and" between them shares its name. A clause of fillers alone, or one too
    long to be a name, gives ``object``.

    >>> [name.label for name in names("Sure, the water: [SEG].", StopRule())]
    ['water']
    >>> [name.label for name in names("The lake is [SEG] and the ships are [SEG], [SEG].",
    ...                               StopRule())]
    ['lake', 'ships', 'ships']
    >>> [name.label for name in names("It is [SEG].", StopRule())]
    ['object']
    """
    pieces = _pieces(raw, stop)
    offset = len("".join(pieces)) - len("".join(pieces).lstrip())
    found: list[Name] = []
    start = -offset
    for piece in pieces[:-1]:
        bare = re.fullmatch(r"[\W_]*(?:and|or)?[\W_]*", piece) is not None
        found.append(found[-1] if bare and found else _name(piece, start))
        start += len(piece)
    return tuple(found)


def _name(piece: str, start: int) -> Name:
    """Name in the last clause of `piece`, which begins at `start` of the visible text."""
    clause_at = max(match.end() for match in re.finditer(r"^|[.!?,;:\n](?=\s|$)\s*", piece))
    words = list(re.finditer(r"[^\s\"'()]+", piece[clause_at:]))
    while words and words[0].group().lower() in _LEADING:
        words.pop(0)
    while words and words[-1].group().lower() in _TRAILING:
        words.pop()
    named = [word for word in words if word.group().lower() not in _FILLERS]
    if not named or len(words) > LONGEST_LABEL:
        return Name(label=NO_LABEL, span=None)
    first, last = clause_at + words[0].start(), clause_at + words[-1].end()
    return Name(label=piece[first:last], span=(start + first, start + last))


def _pieces(raw: str, stop: StopRule) -> list[str]:
    """Visible text cut at the marks: one piece more than there are marks."""
    for hidden in (*stop.strings, *stop.hidden):
        raw = raw.replace(hidden, "")
    parts = raw.split(stop.mark)
    pieces = [part.rstrip(_BEFORE_MARK) for part in parts[:-1]] + [parts[-1]]
    for index in range(1, len(pieces)):
        piece = pieces[index]
        if piece.lstrip()[:1] in tuple(".,;:!?"):
            piece = piece.lstrip()
        elif piece[:1].strip():
            piece = f" {piece}"
        if not "".join(pieces[:index]).strip():
            piece = piece.lstrip(" .,;:!?")
        pieces[index] = piece
    return pieces


def _certain(raw: str, stop: StopRule) -> str:
    """Raw text without an end that later text may turn into a control string."""
    longest = 0
    for control in (stop.mark, *stop.strings, *stop.hidden):
        for length in range(len(control) - 1, longest, -1):
            if raw.endswith(control[:length]):
                longest = length
                break
    return raw[: len(raw) - longest]
