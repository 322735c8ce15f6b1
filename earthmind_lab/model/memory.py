"""How much memory a model's work takes, from its sizes alone; knows no torch.

What stays (weights, keys and values) is exact. What a pass takes while it runs is a bound: the
largest tensors that live at once in each part, counted in its own widths. The factors come from
counting every live tensor of a pass at nano's and at the published sizes in float32 and bfloat16
(`tests/model/test_memory.py` counts again); an attention kernel that makes the whole matrix of
scores (``eager``) takes more. Bytes throughout; `itemsize` is the bytes of one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one number by dtype."""
QUESTION = 256
"""Prompt tokens beside the pictures that `pair_bytes` allows for."""
NEW = 512
"""Written tokens that `pair_bytes` allows for."""
OBJECTS = 16
"""Objects drawn at once that `pair_bytes` allows for."""
_LEVELS = 1 + 1 / 4 + 1 / 16
"""Pixels of SAM 2's three feature levels, in those of the finest."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides the memory of an EarthMind model."""

    layers: int
    """Of the language model, like `width` to `vocabulary`."""
    width: int
    inner: int
    """Width of the feed-forward part."""
    query_width: int
    """Heads times width of a head."""
    key_width: int
    """The same of the heads for keys and values."""
    vocabulary: int
    tile_px: int
    """Side of the square that the vision tower reads."""
    tile_positions: int
    """Vision tokens of a square, the class token included."""
    tile_tokens: int
    """Visual tokens that the language model reads of a square."""
    vision_width: int
    vision_inner: int
    most_tiles: int
    """Most squares a picture is cut into, the thumbnail left out."""
    thumbnail: bool
    """Whether a cut picture is read once more as a whole."""
    mask_px: int
    """Side of the square that SAM 2 reads."""
    mask_cells: int
    """Pixels of its finest feature level."""
    mask_embed: int
    """Width of its first stage."""
    mask_width: int
    """Width of its feature levels and its decoder."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Read them from the content of a config.json in either layout, or `config.to_dict()`.

        Raises:
            KeyError: A size is missing that has no default.
        """
        text = config.get("llm_config") or config["text_config"]
        vision = config["vision_config"]
        side = (
            config.get("force_image_size") or config.get("image_size") or _one(vision, "image_size")
        )
        patches = side // _one(vision, "patch_size")
        heads = text["num_attention_heads"]
        head = text.get("head_dim") or text["hidden_size"] // heads
        mask_px, stride, mask_embed, mask_width = _mask(config)
        return cls(
            layers=text["num_hidden_layers"],
            width=text["hidden_size"],
            inner=text["intermediate_size"],
            query_width=heads * head,
            key_width=text.get("num_key_value_heads", heads) * head,
            vocabulary=text["vocab_size"],
            tile_px=side,
            tile_positions=patches**2 + 1,
            tile_tokens=int(patches * config.get("downsample_ratio", 0.5)) ** 2,
            vision_width=vision["hidden_size"],
            vision_inner=vision["intermediate_size"],
            most_tiles=config.get("max_dynamic_patch", 12),
            thumbnail=config.get("use_thumbnail", True),
            mask_px=mask_px,
            mask_cells=(mask_px // stride) ** 2,
            mask_embed=mask_embed,
            mask_width=mask_width,
        )

    def tiles(self, squares: int) -> int:
        """Squares that the vision tower reads of a picture cut into so many."""
        return squares + 1 if squares > 1 and self.thumbnail else squares


def kv_bytes_per_token(sizes: Sizes, itemsize: int) -> int:
    """Keys and values of one token that the language model has read."""
    return 2 * sizes.layers * sizes.key_width * itemsize


def token_bytes(sizes: Sizes, tiles: int, itemsize: int) -> int:
    """The visual tokens of so many squares, as they are kept."""
    return tiles * sizes.tile_tokens * sizes.width * itemsize


def feature_bytes(sizes: Sizes, itemsize: int) -> int:
    """What SAM 2 saw of one picture, as it is kept."""
    # Width/8 at the finest level, width/4 at a quarter of its pixels, width at a sixteenth.
    return sizes.mask_width * sizes.mask_cells * itemsize // 4


def encode_bytes(sizes: Sizes, tiles: int, itemsize: int) -> int:
    """The vision tower at work on so many squares at once."""
    each = sizes.tile_positions * (2 * sizes.vision_inner + 6 * sizes.vision_width)
    return tiles * (each + 6 * sizes.tile_px**2) * itemsize


def read_bytes(sizes: Sizes, tokens: int, itemsize: int, *, after: int = 0) -> int:
    """The language model at work, without the keys and values that stay.

    Args:
        sizes: Of the model.
        tokens: That it reads in one pass, of all answers together.
        itemsize: Bytes of a number.
        after: Tokens it goes on from, of all answers together. Their keys and values are
            repeated for every head of a query, layer by layer, and joined to the new ones.
    """
    work = tokens * (3 * sizes.inner + 5 * sizes.width)
    repeated = 2 * (sizes.query_width + sizes.key_width) * (after + tokens) if after else 0
    return (work + repeated + tokens * after) * itemsize


def logits_bytes(sizes: Sizes, itemsize: int) -> int:
    """Choosing the next token of one answer: its logits, the same in float32, and two copies."""
    return sizes.vocabulary * (itemsize + 12)


def step_bytes(sizes: Sizes, answers: int, itemsize: int, *, after: int) -> int:
    """One more token of each of some answers; `after` as in `read_bytes`."""
    logits = answers * logits_bytes(sizes, itemsize)
    return read_bytes(sizes, answers, itemsize, after=after) - answers * after * itemsize + logits


def features_pass_bytes(sizes: Sizes, itemsize: int) -> int:
    """SAM 2 at work on one picture."""
    first_stage = 13 * sizes.mask_embed * sizes.mask_cells + 3 * sizes.mask_px**2
    levels = int(4 * _LEVELS * sizes.mask_width * sizes.mask_cells)
    return max(first_stage, levels) * itemsize


def draw_bytes(sizes: Sizes, objects: int, shape: tuple[int, int], itemsize: int) -> int:
    """The mask decoder at work on some objects of a picture of `shape` (H, W)."""
    decode = (5 * objects + 3) * sizes.mask_width // 8 * sizes.mask_cells * itemsize
    height, width = shape
    resize = 4 * objects * (sizes.mask_px**2 + height * width + sizes.mask_cells)  # float32
    return max(decode, resize)


def activation_bytes(
    sizes: Sizes,
    itemsize: int,
    *,
    tiles: int,
    tokens: int,
    objects: int = OBJECTS,
    shape: tuple[int, int] | None = None,
) -> int:
    """The heaviest moment of one ask, beside all that stays.

    Args:
        sizes: Of the model.
        itemsize: Bytes of a number.
        tiles: Squares of the largest view; each view is encoded alone.
        tokens: Of the whole prompt.
        objects: Drawn at once; 0 = no masks.
        shape: (H, W) of the view they are drawn on; default: that of SAM 2's input.
    """
    shape = shape or (sizes.mask_px, sizes.mask_px)
    stages = [
        encode_bytes(sizes, tiles, itemsize),
        read_bytes(sizes, tokens, itemsize),
        read_bytes(sizes, min(tokens, QUESTION), itemsize, after=tokens),
        step_bytes(sizes, 1, itemsize, after=tokens),
    ]
    if objects:
        stages += [
            features_pass_bytes(sizes, itemsize),
            draw_bytes(sizes, objects, shape, itemsize),
        ]
    return max(stages)


def ask_bytes(
    sizes: Sizes,
    itemsize: int,
    *,
    tiles: int,
    views: int,
    text: int = QUESTION,
    new: int = NEW,
    objects: int = OBJECTS,
    shape: tuple[int, int] | None = None,
) -> int:
    """All that one ask takes at most, beside the weights.

    Args:
        sizes: Of the model.
        itemsize: Bytes of a number.
        tiles: Squares of each view.
        views: That the language model reads.
        text: Prompt tokens beside the pictures.
        new: Tokens to be written.
        objects: Drawn at once; 0 = no masks.
        shape: (H, W) of a view; default: that of SAM 2's input.
    """
    tokens = tiles * views * sizes.tile_tokens + text
    stays = (tokens + new) * kv_bytes_per_token(sizes, itemsize)
    stays += token_bytes(sizes, tiles * views, itemsize)
    stays += feature_bytes(sizes, itemsize) if objects else 0
    return stays + activation_bytes(
        sizes, itemsize, tiles=tiles, tokens=tokens, objects=objects, shape=shape
    )


def pair_bytes(sizes: Sizes, itemsize: int, squares: int) -> int:
    """A question about an optical and a SAR view that are cut into so many squares each."""
    return ask_bytes(sizes, itemsize, tiles=sizes.tiles(squares), views=2)


def _one(fields: Mapping[str, Any], name: str) -> int:
    """A side that is written as one number or as two equal ones."""
    value = fields[name]
    return int(value if isinstance(value, int) else value[0])


def _mask(config: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Input side, stride, width of the first stage and of the decoder of SAM 2."""
    if "sam_config" not in config:  # the published layout; what it doesn't say is hiera-large's
        sam = config.get("sam2") or {}
        return (
            sam.get("image_size", 1024),
            sam.get("patch_stride", 4),
            sam.get("embed_dim", 144),
            sam.get("d_model", 256),
        )
    vision = config["sam_config"]["vision_config"]
    backbone = vision["backbone_config"]
    return (
        config.get("sam_image_size", 1024),
        _one(backbone, "patch_stride"),
        backbone["hidden_size"],
        vision["fpn_hidden_size"],
    )
