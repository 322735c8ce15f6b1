"""A recipe: everything that decides a training, as one YAML file.

The same keys in a file, on the command line (``--set lora.rank=8``) and in Python
(``recipe.replace("lora.rank=8")``). A key that nobody reads is refused, so that a spelling mistake
never trains something else. Knows no torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Fusion, Modality, Options
from earthmind_lab.finetune.plain import plain, read, unknown
from earthmind_lab.finetune.sections import (
    PARTS,
    Areas,
    Cache,
    Evaluation,
    Lora,
    Losses,
    Optimiser,
    Parallel,
    Rehearsal,
    Saving,
    Source,
    count,
    positive,
)

if TYPE_CHECKING:
    from earthmind_lab.model.batch import TrainingForm

BUILT_IN = Path(__file__).with_name("recipes")
"""Recipes that come with the package, by the names of their files."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training.

    Example:
        >>> recipe = Recipe.load("lora").replace("lora.rank=8", "steps=20")
        >>> recipe.lora.rank, recipe.steps, recipe.method
        (8, 20, 'lora')
    """

    name: str
    """What the run is called."""
    model: str = "nano"
    """``nano``, a published checkpoint or the folder of a model."""
    data: tuple[Source, ...] = ()
    """What is learned from; each line has a path, and may have form, images, split, licence and
    repeats."""
    validation: tuple[Source, ...] = ()
    """For early stop; nothing is learned from them."""
    guard: tuple[Source, ...] = ()
    """What the model could do before and should still do after."""
    test: tuple[Source, ...] = ()
    """Held out: answered before and after for the card, and used for nothing else."""
    areas: Areas = field(default_factory=Areas)
    rehearsal: Rehearsal = field(default_factory=Rehearsal)
    stage: Literal["", "pretrain", "instruct", "fusion"] = ""
    """Of the papers' curriculum; only recorded."""
    forms: Literal["image", "multi"] = "multi"
    """``image`` refuses examples with more than one picture."""
    method: Literal["lora", "qlora", "dora", "full"] = "lora"
    """Adapters, the same over 4 bits, adapters with a learned length per row, or every weight."""
    lora: Lora = field(default_factory=Lora)
    train: tuple[str, ...] = ("language", "embeddings", "projector", "text_head", "mask_decoder")
    """Parts that are learned; beside these there are gate, vision and mask_encoder (`PARTS`). The
    rest stays as it is."""
    freeze: tuple[str, ...] = ()
    """Patterns of weights that stay although their part is trained: ``language.model.layers.0.*``;
    with adapters these are no matter."""
    losses: Losses = field(default_factory=Losses)
    training_form: Literal["default", "june", "newer"] = "default"
    """As questions are asked, or as a published code trained (`model.TrainingForm`)."""
    fusion: Fusion | None = None
    """How optical and SAR tokens meet; None = as the model says."""
    mask_source: Modality | None = None
    """The sensor whose picture draws the masks; None = as the model says."""
    optimiser: Optimiser = field(default_factory=Optimiser)
    batch: int = 1
    """Examples per process and pass; with `packing` scenes."""
    packing: int = 1
    """Most examples about the same pictures that a pass reads them for together; 1 = each reads its
    own. Losses don't change, but which examples come together does."""
    accumulation: int = 4
    """Passes per step."""
    epochs: float = 1.0
    """How often all examples are seen."""
    steps: int = 0
    """Of the optimiser; 0 = as many as the epochs have."""
    max_length: int = 8192
    """Tokens of an example; longer ones are refused, never cut. Of packed ones, those that would
    be longer together read their pictures once more."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """``bfloat16``: frozen weights in it, trained ones in float32, autocast between."""
    checkpointing: bool = True
    """Compute a layer's inner values once more instead of keeping them."""
    cache: Cache = field(default_factory=Cache)
    seed: int = 0
    """Of adapters, order, dropout and mask points."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    saving: Saving = field(default_factory=Saving)
    logs: Literal["", "tensorboard"] = ""
    """Further logs: event files in the folder ``tensorboard`` of the run."""
    parallel: Parallel = field(default_factory=Parallel)
    device: str | None = None
    """``cpu`` or ``cuda``; None = a GPU where there is one."""

    def __post_init__(self) -> None:
        for name in ("batch", "packing", "accumulation", "epochs", "max_length"):
            positive(getattr(self, name), name)
        count(self.steps, "steps")
        for part in self.train:
            if part not in PARTS:
                raise unknown(part, PARTS, "train")
        if not self.train:
            raise EarthMindError("train is empty: nothing is learned.", change=", ".join(PARTS))
        waits = self.optimiser.waits
        if all(waits.get(part) for part in self.train):
            raise EarthMindError(
                "At first nothing would be learned: every part waits.",
                change="leave one of them out of optimiser.waits",
            )
        if waits and self.parallel.kind == "deepspeed":
            raise EarthMindError(
                "DeepSpeed steps by itself, so that no part can wait.",
                change="parallel.kind=ddp or fsdp2, or no optimiser.waits",
            )
        if "gate" in self.train and self.training_form != "june":
            raise EarthMindError(
                "There is no gate to train.",
                found=f"training_form: {self.training_form}",
                change="training_form: june, or no gate in train",
            )
        if self.method != "full" and "language" not in self.train:
            raise EarthMindError(
                f"method: {self.method} puts adapters on the language model, which isn't trained.",
                change="language in train, or method: full",
            )

    @classmethod
    def load(cls, name: str | Path) -> Recipe:
        """Read a recipe.

        Args:
            name: Of a built-in one (``lora``, ``qlora``, ``dora``, ``full``, ``image``, ``multi``,
                ``pretrain``, ``instruct``, ``fusion``), or the path of a file.

        Raises:
            EarthMindError: No such recipe, no YAML, or something in it that isn't a recipe's.
        """
        path = BUILT_IN / f"{name}.yaml" if str(name) in built_in() else Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EarthMindError(
                f"There is no recipe {str(name)!r}.",
                found=getattr(error, "strerror", None) or str(error),
                change=f"{', '.join(built_in())}, or a file",
            ) from error
        return read(cls, from_yaml(text, str(name)), f"recipe {str(name)!r}")

    def save(self, path: str | Path) -> Path:
        """Write every key, also those with their default; complete or not at all."""
        path = Path(path)
        draft = path.with_name(path.name + ".part")
        draft.write_text(self.text(), encoding="utf-8")
        return draft.replace(path)

    def text(self) -> str:
        """As YAML."""
        import yaml

        return yaml.safe_dump(plain(self), sort_keys=False, allow_unicode=True)

    def replace(self, *changes: str, **values: Any) -> Recipe:
        """The same with other values.

        Args:
            changes: ``key=value``, with dots into sections; the value as in YAML.
            values: Keys of the recipe itself, in Python.

        Raises:
            EarthMindError: An unknown key or a value that can't be.
        """
        data = plain(self)
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals:
                raise EarthMindError(f"{change!r} sets nothing.", change="key=value")
            _set(data, key.strip(), from_yaml(text, change))
        return read(Recipe, {**data, **plain(values)}, "recipe")

    @property
    def hash(self) -> str:
        """SHA-256 of all its values: equal hash, equal training on equal data."""
        text = json.dumps(plain(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def options(self) -> Options:
        """How prompts are arranged."""
        return Options(fusion=self.fusion, mask_source=self.mask_source)

    def form(self) -> TrainingForm:
        """As `training_batch` and `EarthMindTraining` take it."""
        from earthmind_lab.model.batch import TrainingForm

        forms = {"june": TrainingForm.june, "newer": TrainingForm.newer}
        return forms.get(self.training_form, TrainingForm)()


def built_in() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in BUILT_IN.glob("*.yaml")))


def from_yaml(text: str, name: str) -> Any:
    """Content of YAML, read by the loader that makes plain data only.

    Args:
        text: As in a file.
        name: For the message.

    Raises:
        EarthMindError: It isn't YAML.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise EarthMindError(f"{name!r} is not YAML.", found=said) from error


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(data.get(section), dict):
            raise unknown(section, [k for k, v in data.items() if isinstance(v, dict)], "recipe")
        data = data[section]
    data[last] = value
