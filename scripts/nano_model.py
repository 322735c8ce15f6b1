"""earthmind-nano's sizes, tokenizer and training batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nano_data import FALSE_COLOUR, SAR, SIZE, TRUE_COLOUR, VIEWS, Dates, Window
from nano_text import Line, decisive
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.exchange import Options, Prompt, Region, Turn, View
from earthmind_lab.finetune.words import SYNONYMS, sentences
from earthmind_lab.model import EarthMindConfig, EarthMindProcessor
from earthmind_lab.model.config import IMAGENET_MEAN, IMAGENET_STD, SAM_MEAN, SAM_STD, sam2_config

SPECIAL = (
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "[SEG]",
    "<p>",
    "</p>",
    "<vp>",
    "</vp>",
)
VOCABULARY = 768
"""At most; with these, nearly every word that is taught is one token."""
NOTICE = (
    "earthmind-nano: a small demonstration model, not the published EarthMind. It knows water, "
    "trees, crops, built-up areas, bare ground, snow, flooded vegetation, clouds and rangeland in "
    "Sentinel-1/-2 pictures of 1 to 3.5 km, and is often wrong; check the evidence."
)
LICENCE = "CC-BY-SA-4.0"

FIRST = 3.0
"""Weight of an answer's first word where it decides; of later ones that do 1, of others 0.3."""

MODES: dict[str, tuple[int, ...]] = {
    "optical": (FALSE_COLOUR, TRUE_COLOUR),
    "sar": (SAR,),
    "both": (SAR, FALSE_COLOUR, TRUE_COLOUR),
    "picture": (TRUE_COLOUR,),
}
"""Views of each kind of prompt, in the order the processor arranges them."""
DATES = {"dates sar": SAR, "dates optical": FALSE_COLOUR}
"""Prompts of two dates: one view at two times, the frames form."""


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of the templates' words; bytes cover everything else."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(sentences(), trainer)
    ends = {"eos_token": "<|end|>", "pad_token": "<|end|>"}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **ends)


def config(vocabulary: int) -> EarthMindConfig:
    """About 5.7 million parameters: under 12 MB in half precision."""
    return EarthMindConfig(
        vision_config={
            "image_size": SIZE,
            "patch_size": 16,
            "hidden_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 576,
            "attention_bias": True,
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 512,
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        # Every window side is even where hiera pools its queries, and the global block is the
        # last of its stage: the library divides by the window of the block before.
        sam_config=sam2_config(
            image_size=SIZE,
            embed_dim=24,
            num_heads=1,
            stages=[1, 1, 2, 1],
            global_att_blocks=[3],
            bkg=[7, 7],
            window_spec=[8, 4, 22, 11],
            d_model=96,
            mlp_dim=256,
            dynamic_multimask=False,
            iou_head_hidden_dim=96,
        ),
        image_size=SIZE,
        sam_image_size=SIZE,
        max_dynamic_patch=1,
        use_thumbnail=False,
        sam_memory=False,
        multimask_output=False,
        group_norm_fpn=True,
        fusion="concatenate",
        mask_source="sar",
        notice=NOTICE,
        display_name="earthmind-nano",
        classes=list(CLASSES),
        licence=LICENCE,
    )


def pixels(views: np.ndarray, *, sam: bool = False) -> Tensor:
    """(N, S, S, 3) uint8 to the normalised input of one of the two towers, (N, 3, S, S)."""
    mean, std = (SAM_MEAN, SAM_STD) if sam else (IMAGENET_MEAN, IMAGENET_STD)
    values = torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2).float() / 255
    return (values - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def views_in(mode: str) -> tuple[int, ...]:
    """Places in `VIEWS` of the pictures of a prompt of `mode`."""
    return (DATES[mode],) * 2 if mode in DATES else MODES[mode]


def shown(window: Window | Dates, mode: str) -> np.ndarray:
    """(V, S, S, 3) uint8, the pictures of a prompt of `mode`."""
    if isinstance(window, Dates):
        return window.views[:, DATES[mode]]
    return window.views[list(MODES[mode])]


def view_of(index: int, image: np.ndarray) -> View:
    """A picture under the name and sensor of its place in `VIEWS`."""
    return View(image=image, name=VIEWS[index], modality="sar" if index == SAR else "optical")


def prompt_of(
    line: Line, views: Sequence[View], earlier: Sequence[Line], rng: np.random.Generator
) -> Prompt:
    """A question, after the earlier ones of its conversation."""
    regions = () if line.region is None else (Region(mask=line.region, label="region1"),)
    # A conversation may hand the marks back or leave them out.
    marks = rng.random() < 0.5
    history = tuple(
        Turn(
            question=turn.question,
            reply=turn.answer if marks else turn.answer.replace(": [SEG]", ""),
        )
        for turn in earlier
    )
    return Prompt(text=line.question, views=tuple(views), regions=regions, history=history)


@dataclass(kw_only=True, eq=False)
class Encoded:
    """One question in token ids."""

    ids: list[int]
    """From the end of the picture block to the end of the answer."""
    weights: list[float]
    """Loss weight of each id as a target."""
    cells: np.ndarray
    """Cells of the token grid that fill its region placeholders."""
    segments: tuple[int, ...]
    named: tuple[tuple[int, int], ...]
    """(place among the ids, class) of what it asks about."""


class Encoder:
    """Questions to ids, exactly as the processor lays them out for the engine.

    Args:
        processor: Of the model.
    """

    def __init__(self, processor: EarthMindProcessor) -> None:
        self.processor = processor
        blank = np.zeros((SIZE, SIZE, 3), np.uint8)
        self.views = [view_of(index, blank) for index in range(len(VIEWS))]
        self._words = {
            tuple(processor.tokenizer.encode(f" {word}")): index
            for index, name in enumerate(CLASSES)
            for word in (name, *SYNONYMS[name])
        }
        self.names = [self._alone(name) for name in CLASSES]
        """Of the classes; no answer follows, so nothing is asked."""

    def prefix(self, mode: str) -> list[int]:
        """Ids of the picture block."""
        layout = self._layout(Prompt(text="x", views=self._views(mode)))
        return list(layout.input_ids[0, : layout.question_start])

    def encode(
        self, line: Line, mode: str, earlier: Sequence[Line], rng: np.random.Generator
    ) -> Encoded:
        """One question, after the earlier ones of its conversation."""
        layout = self._layout(prompt_of(line, self._views(mode), earlier, rng))
        question = list(layout.input_ids[0, layout.question_start :])
        answer, weights = self._answer(line.answer)
        cells = np.concatenate([*layout.region_cells, np.zeros(0, np.int64)])
        return Encoded(
            ids=question + answer,
            weights=[0.0] * len(question) + weights,
            cells=cells.astype(np.int64),
            segments=line.segments,
            named=self._named(question),
        )

    def _alone(self, name: str) -> Encoded:
        ids = self.processor.tokenizer.encode(f" {name}")
        return Encoded(
            ids=ids, weights=[0.0] * len(ids), cells=np.zeros(0, np.int64), segments=(),
            named=self._named(ids),
        )  # fmt: skip

    def _named(self, ids: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """(last id, class) of each word for a class; the longest that fits, as "snow and ice"."""
        found, at = [], 0
        while at < len(ids):
            fitting = (w for w in self._words if tuple(ids[at : at + len(w)]) == w)
            word = max(fitting, key=len, default=None)
            if word is not None:
                found.append((at + len(word) - 1, self._words[word]))
            at += len(word or (0,))
        return tuple(found)

    def _views(self, mode: str) -> tuple[View, ...]:
        return tuple(self.views[i] for i in views_in(mode))

    def _layout(self, prompt: Prompt):  # noqa: ANN202
        return self.processor.layout(prompt, [1] * len(prompt.views), Options())

    def _answer(self, text: str) -> tuple[list[int], list[float]]:
        """Ids of an answer; words that carry its content weigh more than its form.

        The first weighs most where it decides, as "Yes" does: it alone must look, what follows may
        go by it.
        """
        ids = self.processor.encode_reply(text + "<|end|>")
        spans, weights, done = decisive(text), [], 0
        for count in range(1, len(ids) + 1):
            end = len(self.processor.decode(ids[:count]))
            inside = any(start < end and done < stop for start, stop in spans)
            weights.append((1.0 if weights else FIRST) if inside else 0.3)
            done = end
        return ids, weights


@dataclass(kw_only=True, eq=False)
class Batch:
    """Scenes with their packed questions."""

    ids: Tensor
    """(B, L)."""
    targets: Tensor
    """(B, L) id that each position must predict."""
    weights: Tensor
    """(B, L)."""
    mask: Tensor
    """(B, 1, L, L) True where attention is allowed."""
    positions: Tensor
    """(B, L)."""
    cells: list[np.ndarray]
    """Per scene, cells that fill region placeholders, in the order of the ids."""
    prefix: int
    segments: list[tuple[int, int, int]]
    """(scene, position, class) of each [SEG]."""
    named: list[tuple[int, int, int]]
    """(scene, position, class) of each word that asks for a class."""


def pack(prefix: Sequence[int], questions: Sequence[Sequence[Encoded]], seg: int) -> Batch:
    """Questions of a scene share its picture block: each sees the block and itself only."""
    start = len(prefix)
    length = start + max(sum(len(q.ids) for q in scene) for scene in questions)
    count = len(questions)
    ids = torch.zeros(count, length, dtype=torch.long)
    targets = torch.zeros(count, length, dtype=torch.long)
    weights = torch.zeros(count, length)
    positions = torch.arange(length).repeat(count, 1)
    block = torch.full((count, length), -1)
    block[:, :start] = 0
    segments: list[tuple[int, int, int]] = []
    named: list[tuple[int, int, int]] = []
    for row, scene in enumerate(questions):
        ids[row, :start] = torch.tensor(prefix)
        at = start
        for number, question in enumerate(scene, start=1):
            size = len(question.ids)
            span = slice(at, at + size)
            ids[row, span] = torch.tensor(question.ids)
            targets[row, at : at + size - 1] = torch.tensor(question.ids[1:])
            weights[row, at : at + size - 1] = torch.tensor(question.weights[1:])
            positions[row, span] = torch.arange(start, start + size)
            block[row, span] = number
            places = [i for i, token in enumerate(question.ids) if token == seg]
            # Masks of earlier turns aren't asked again: only the last ones are this answer's.
            places = places[len(places) - len(question.segments) :]
            segments += [
                (row, at + place, index)
                for place, index in zip(places, question.segments, strict=True)
            ]
            named += [(row, at + place, index) for place, index in question.named]
            at += size
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = block[:, :, None] == block[:, None, :]
    allowed = causal & (same | (block[:, None, :] == 0))
    allowed |= torch.eye(length, dtype=torch.bool)
    return Batch(
        ids=ids,
        targets=targets,
        weights=weights,
        mask=allowed[:, None],
        positions=positions,
        cells=[np.concatenate([q.cells for q in scene]) for scene in questions],
        prefix=start,
        segments=segments,
        named=named,
    )
