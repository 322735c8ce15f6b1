"""Prompts and pictures to what the model reads: token ids, placeholders, pixel values.

The order of everything the language model sees is decided in this file and nowhere else. Text of
users is always plain text: a control token written in a question is encoded letter by letter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoProcessor, PreTrainedTokenizerFast

from earthmind_lab.errors import EngineError
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model import pictures
from earthmind_lab.model.arrangement import Arrangement, Form
from earthmind_lab.model.config import EarthMindConfig
from earthmind_lab.model.published import local_folder
from earthmind_lab.model.text import (
    IMAGE_END,
    IMAGE_START,
    IMAGE_TOKEN,
    REGION_END,
    REGION_START,
    REPLY_TOKENS,
    SEG,
    ControlText,
    Piece,
)
from earthmind_lab.model.tokenizer import read_tokenizer, save_tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptLayout:
    """A prompt as token ids, and what fills its picture placeholders."""

    input_ids: NDArray[np.int64]
    """(1, L)."""
    blocks: tuple[tuple[int, int], ...]
    """(view index, tile) whose T visual tokens fill the placeholders, in this order; the view
    index counts `Prompt.views`, and is `FUSED` for weighted fusion."""
    region_block: int | None
    """Index into `blocks` of the one the regions' tokens are repeated from."""
    region_cells: tuple[NDArray[np.int64], ...]
    """Per region the cells (row-major, 0 to T-1) of that block, after all blocks."""
    question_start: int
    """Index after the last picture block: the ids before it serve any question on these views.
    0 without pictures."""
    form: Form
    """How the views are arranged."""

    def slots(self, tokens: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor | None:
        """What `embed` puts in the placeholders.

        Args:
            tokens: (T, D) visual tokens of each of `blocks`.

        Returns:
            (n, D); None without pictures.
        """
        if not self.blocks:
            return None
        parts = [tokens[block] for block in self.blocks]
        if self.region_block is not None:
            marked = parts[self.region_block]
            parts += [marked[torch.from_numpy(cells)] for cells in self.region_cells]
        return torch.cat(parts)


class EarthMindProcessor:
    """Turns prompts and views into model inputs.

    Args:
        tokenizer: A fast tokenizer that knows the control tokens.
        config: The model's; its token ids are filled in when unset.

    Raises:
        EngineError: Tokenizer and config do not belong together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: EarthMindConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        rows = config.text_config.vocab_size
        if rows != len(tokenizer):
            raise EngineError(
                "The tokenizer does not belong to the weights.",
                found=f"{len(tokenizer)} tokens, {rows} embedding rows",
                change="take tokenizer.json and weights from one folder",
            )
        self._text = ControlText(tokenizer)
        self.image_token_id = self._claim("image_token_id", IMAGE_TOKEN)
        self.seg_token_id = self._claim("seg_token_id", SEG)
        self.stop_strings: tuple[str, ...] = tuple(config.template["stop"])
        self.eos_token_id: int | None = tokenizer.eos_token_id

    @classmethod
    def from_pretrained(
        cls,
        folder: str | PathLike[Any],
        config: EarthMindConfig | None = None,
        *,
        revision: str | None = None,
        **_: Any,
    ) -> EarthMindProcessor:
        """Read the tokenizer (and config.json) of a model folder.

        Args:
            folder: In our layout or in the published one; also ``nano``, an alias of
                `published.MODELS` or a hub id.
            config: Used instead of the folder's config.json.
            revision: Of a hub id.
            _: What transformers' `AutoProcessor` hands to every processor; not used.

        Raises:
            ModelNotFound: The folder lacks a file.
        """
        folder = local_folder(folder, revision)
        tokenizer = read_tokenizer(folder)
        if config is None:
            from earthmind_lab.model.convert import read_config

            config = read_config(folder)
        return cls(tokenizer, config)

    def save_pretrained(self, folder: str | PathLike[Any]) -> None:
        """Write tokenizer and config; the model writes its weights beside them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = save_tokenizer(self.tokenizer, folder)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
        self.config.save_pretrained(folder)

    # --- pictures ---------------------------------------------------------------------------

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Columns and rows a picture of `size` (H, W) is cut into."""
        config = self.config
        return pictures.best_grid(
            size, config.image_size, config.min_dynamic_patch, config.max_dynamic_patch
        )

    def tile_count(self, size: tuple[int, int], *, single: bool = False) -> int:
        """How many squares `tiles` makes of a picture of `size` (H, W)."""
        columns, rows = (1, 1) if single else self.grid(size)
        count = columns * rows
        return count + 1 if count > 1 and self.config.use_thumbnail else count

    def tiles(self, image: NDArray[np.uint8], *, single: bool = False) -> list[NDArray[np.uint8]]:
        """Cut a picture into the squares that the vision tower reads.

        Args:
            image: uint8 (H, W, 3).
            single: One square of the whole picture, its aspect ratio lost (the frames form).

        Returns:
            uint8 (S, S, 3) each, row by row, the whole picture last where there are several.
        """
        config, grid = self.config, (1, 1) if single else self.grid(image.shape[:2])
        return pictures.cut(image, grid, config.image_size, thumbnail=config.use_thumbnail)

    def pixel_values(self, view: View, *, single: bool = False) -> NDArray[np.float32]:
        """Input of the vision tower.

        Args:
            view: A picture.
            single: As in `tiles`; `Arrangement.single_tile` says when.

        Returns:
            (tiles, 3, S, S).
        """
        stack = np.stack(self.tiles(view.image, single=single))
        return pictures.normalise(stack, self.config.pixel_mean, self.config.pixel_std)

    def sam_pixel_values(self, view: View) -> NDArray[np.float32]:
        """Input of the mask tower, (1, 3, S, S); the aspect ratio is not kept."""
        side = self.config.sam_image_size
        image = pictures.resize(view.image, (side, side))[None]
        return pictures.normalise(image, self.config.sam_pixel_mean, self.config.sam_pixel_std)

    def arrange(self, prompt: Prompt, options: Options) -> Arrangement:
        """Which views of a prompt are read and drawn on, and in which order."""
        return Arrangement(self.config, prompt, options)

    # --- text -------------------------------------------------------------------------------

    def prompt_text(
        self, prompt: Prompt, tiles_per_view: Sequence[int], options: Options | None = None
    ) -> str:
        """The prompt as one string, for people; `layout` encodes it safely."""
        pieces, *_ = self._pieces(prompt, tiles_per_view, options or Options())
        return "".join(piece.text for piece in pieces)

    def layout(
        self, prompt: Prompt, tiles_per_view: Sequence[int], options: Options | None = None
    ) -> PromptLayout:
        """Token ids and the order of visual tokens.

        Args:
            prompt: The question.
            tiles_per_view: Squares of each of `prompt.views`, also of those left out.
            options: Fusion and sensor choice matter here.

        Raises:
            PromptError: The views of a pair are cut differently.
        """
        options = options or Options()
        pieces, blocks, region_block, cells = self._pieces(prompt, tiles_per_view, options)
        ids = self._text.encode(pieces)
        end = self._text.ids[IMAGE_END]
        start = len(ids) - ids[::-1].index(end) if end in ids else 0
        return PromptLayout(
            input_ids=np.array([ids], dtype=np.int64),
            blocks=blocks,
            region_block=region_block,
            region_cells=cells,
            question_start=start,
            form=self.arrange(prompt, options).form,
        )

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text in which nothing is a control token."""
        return self._text.plain(text)

    def encode_reply(self, text: str) -> list[int]:
        """Ids of an answer for training.

        [SEG], phrase marks and stop strings are control tokens in it where the tokenizer has
        them as such.
        """
        allowed = (*REPLY_TOKENS, *self.stop_strings)
        return self._text.encode(self._text.trusted(text, allowed))

    def decode(self, ids: Sequence[int], *, control: bool = True) -> str:
        """Text of token ids; `control` keeps control tokens such as [SEG]."""
        tokenizer = self.tokenizer.backend_tokenizer
        text: str = tokenizer.decode(list(ids), skip_special_tokens=not control)
        return text

    def _pieces(
        self, prompt: Prompt, tiles_per_view: Sequence[int], options: Options
    ) -> tuple[list[Piece], tuple[tuple[int, int], ...], int | None, tuple[NDArray[np.int64], ...]]:
        views = self.arrange(prompt, options)
        blocks = views.blocks(tiles_per_view)
        region_block = views.region_block(blocks) if prompt.regions else None
        cells = tuple(self._cells(region.mask) for region in prompt.regions)
        picture = self._picture(blocks, views.single_tile) + self._regions(cells)
        template: dict[str, Any] = self.config.template
        prefix, suffix = (
            self._text.trusted(template["user_prefix"]),
            self._text.trusted(template["user_suffix"]),
        )
        pieces: list[Piece] = []
        for turn in prompt.history:
            pieces += [*prefix, *picture, Piece(turn.question), *suffix]
            pieces += self._text.trusted(turn.reply, REPLY_TOKENS)
            pieces += self._text.trusted(template["reply_suffix"])
            picture = []  # only the first turn carries the pictures
        pieces += [*prefix, *picture, Piece(prompt.text), *suffix]
        return pieces, blocks, region_block, cells

    def _cells(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Cells of the token grid inside a region.

        Nearest resizing, as published; a region that falls between the sampled pixels keeps the
        one cell it covers most, where the published model silently drops it.
        """
        side = self.config.grid_side
        values = torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None, None]
        cells = functional.interpolate(values, (side, side), mode="nearest").flatten()
        if not cells.any():
            share = functional.adaptive_avg_pool2d(values, (side, side)).flatten()
            cells[share.argmax()] = 1
        return np.flatnonzero(cells.numpy())

    def _picture(self, blocks: tuple[tuple[int, int], ...], frames: bool) -> list[Piece]:
        if not blocks:
            return []
        each = self.config.tokens_per_tile
        groups = [[block] for block in blocks] if frames else [list(blocks)]
        pieces: list[Piece] = []
        for group in groups:
            pieces += [Piece("\n")] if pieces else []
            pieces += [Piece(IMAGE_START, True)]
            pieces += [Piece(IMAGE_TOKEN, True)] * (each * len(group))
            pieces += [Piece(IMAGE_END, True)]
        return pieces

    def _regions(self, cells: tuple[NDArray[np.int64], ...]) -> list[Piece]:
        if not cells:
            return []
        pieces = [Piece(f"\nThere are {len(cells)} part regions in the picture: ")]
        for number, inside in enumerate(cells, start=1):
            pieces += [Piece(f"{', ' if number > 1 else ''}region{number}")]
            pieces += [Piece(REGION_START, True)]
            pieces += [Piece(IMAGE_TOKEN, True)] * len(inside)
            pieces += [Piece(REGION_END, True)]
        return [*pieces, Piece(".\n")]

    def _claim(self, field: str, token: str) -> int:
        """The id of a control token, written to the config or checked against it."""
        found, stated = self._text.ids[token], getattr(self.config, field)
        if stated is not None and stated != found:
            raise EngineError(
                f"Config and tokenizer disagree about {token}.",
                found=f"{field} {stated}, tokenizer {found}",
                change="take both from one folder",
            )
        setattr(self.config, field, found)
        return found


AutoProcessor.register(EarthMindConfig, EarthMindProcessor)
