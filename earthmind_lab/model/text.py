"""Text to token ids, with control tokens only where we put them.

A prompt is a list of pieces. Plain pieces go through a tokenizer that knows no control token, so
a user who writes ``[SEG]`` gets those five characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from earthmind_lab.errors import EngineError, PromptError

IMAGE_START, IMAGE_END, IMAGE_TOKEN = "<img>", "</img>", "<IMG_CONTEXT>"
REGION_START, REGION_END, SEG = "<vp>", "</vp>", "[SEG]"
REPLY_TOKENS = (SEG, "<p>", "</p>")
"""Control tokens a model's own earlier reply may hold."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt: plain text, or one control token."""

    text: str
    control: bool = False


class ControlText:
    """Encodes pieces.

    Args:
        tokenizer: Knows the control tokens.

    Attributes:
        ids: Control token -> id.

    Raises:
        EngineError: A needed control token is missing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.ids = _control_ids(tokenizer)
        self._ids = frozenset(self.ids.values())
        self._split = re.compile("(" + "|".join(map(re.escape, self.ids)) + ")")
        self._plain = _without_control(tokenizer)
        self._unknown: int | None = tokenizer.unk_token_id

    def plain(self, text: str) -> list[int]:
        """Ids of text in which nothing is a control token."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        if self._ids.isdisjoint(ids):
            return ids
        # A vocabulary of whole words may list control tokens as words.
        if self._unknown is None:
            raise PromptError(
                "The text holds a control token of the model.", change="write it differently"
            )
        return [self._unknown if token in self._ids else token for token in ids]

    def trusted(self, text: str, allowed: Sequence[str] | None = None) -> list[Piece]:
        """Pieces of text of our own, in which control tokens count as such."""
        names = self.ids if allowed is None else allowed
        parts = self._split.split(text)
        return [Piece(p, p in self.ids and p in names) for p in parts if p]

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Ids of pieces; neighbouring plain pieces are one text, since BPE merges across them."""
        ids: list[int] = []
        run = ""
        for piece in pieces:
            if not piece.control:
                run += piece.text
                continue
            ids += self.plain(run) if run else []
            ids.append(self.ids[piece.text])
            run = ""
        return ids + (self.plain(run) if run else [])


def _control_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Control tokens and their ids, longest first; the needed ones must exist."""
    added = tokenizer.added_tokens_encoder
    needed = (IMAGE_START, IMAGE_END, IMAGE_TOKEN, REGION_START, REGION_END, SEG)
    missing = [name for name in needed if name not in added]
    if missing:
        raise EngineError(
            "The tokenizer lacks control tokens of EarthMind.",
            found=f"no {', '.join(missing)}",
            change="use the tokenizer saved with the model",
        )
    return {name: added[name] for name in sorted(added, key=lambda n: (-len(n), n))}


def _without_control(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The same tokenizer knowing no added token, so that no text can name one."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = []
    state["truncation"] = state["padding"] = None
    return Tokenizer.from_str(json.dumps(state))
