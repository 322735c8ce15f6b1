"""From a recipe to a model whose right parts can be trained."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from earthmind_lab.errors import EarthMindError, EngineUnavailable
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.model.opening import WHOLE, choose_device
from earthmind_lab.settings import Settings

_WRAPPED = re.compile(r"(?<=language\.)base_model\.model\.|\.base_layer(?=\.)")
"""What adapters put into the names of the weights that they lie on."""
_STARTS = {
    "vision.": "vision",
    "projector.": "projector",
    "text_head.": "text_head",
    "sam.sam2.mask_decoder.": "mask_decoder",
    "sam.": "mask_encoder",
    "language.": "language",
    "query": "gate",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A model that is ready for its first step."""

    step: Any
    """`EarthMindTraining`; a weight is trained exactly if it asks for a gradient."""
    processor: Any
    """`EarthMindProcessor`."""
    folder: Path
    """Of the model that it began from."""
    weights: str
    """SHA-256 of that model's weight files."""


def build(recipe: Recipe, *, every_part: bool = False) -> Built:
    """Read the model of a recipe, put adapters on it, freeze the rest.

    Args:
        recipe: What to train.
        every_part: As in `EarthMindTraining`.

    Raises:
        EngineUnavailable: A package or device that the recipe needs isn't there.
        EarthMindError: ``freeze`` leaves nothing to train, or fits nothing.
        ModelNotFound: No such model.
    """
    check_method(recipe)
    from earthmind_lab.engine.loading import weight_hash
    from earthmind_lab.model.files import check_folder
    from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
    from earthmind_lab.model.processing import EarthMindProcessor
    from earthmind_lab.model.published import local_folder
    from earthmind_lab.model.training import EarthMindTraining

    folder = local_folder(recipe.model)
    files = check_folder(folder)
    settings: dict[str, Any] = {"dtype": "auto"}
    if recipe.method == "qlora":
        settings = {"quantization_config": _four_bits(), "dtype": torch.bfloat16}
    with no_bars():
        model: Any = EarthMindForConditionalGeneration.from_pretrained(folder, **settings)
    _in_one_form(model.language)
    processor = EarthMindProcessor.from_pretrained(folder, model.config)
    torch.manual_seed(recipe.seed)  # adapters begin with drawn numbers
    if recipe.method != "full":
        model.language = _with_adapters(model.language, recipe)
    if recipe.checkpointing:
        _checkpoint(model.language)
    step = EarthMindTraining(
        model,
        recipe.losses.weights(),
        form=recipe.form(),
        points=recipe.losses.points,
        seed=recipe.seed,
        every_part=every_part,
    )
    _choose(step, recipe)
    device = choose_device(recipe.device or Settings.from_env().device)
    return Built(
        step=step.to(device), processor=processor, folder=folder, weights=weight_hash(files)
    )


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the library's progress bars of loading and saving."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def check_method(recipe: Recipe) -> None:
    """Refuse what this machine can't train, before anything is read.

    Raises:
        EngineUnavailable: A package lacks.
    """
    for package in ("accelerate", *(("peft",) if recipe.method != "full" else ())):
        if importlib.util.find_spec(package) is None:
            raise EngineUnavailable(
                f"Training with method: {recipe.method} needs {package}.",
                found=f"no {package}",
                change="pip install 'earthmind-lab[finetune]'",
            )
    if recipe.method == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
        raise EngineUnavailable(
            "method: qlora needs bitsandbytes.",
            found="no bitsandbytes",
            change="pip install bitsandbytes, or method: lora",
        )


def part_of(name: str) -> str | None:
    """The part of `recipe.PARTS` that a weight belongs to.

    Args:
        name: As `canonical` gives it.

    Example:
        >>> part_of("language.lm_head.weight"), part_of("language.model.norm.weight")
        ('embeddings', 'language')
    """
    if name.startswith("language.") and ("embed_tokens." in name or "lm_head." in name):
        return "embeddings"
    return next((part for start, part in _STARTS.items() if name.startswith(start)), None)


def canonical(name: str) -> str:
    """The name that a weight of `EarthMindTraining` has in the model itself.

    Example:
        >>> canonical("model.language.base_model.model.model.norm.weight")
        'language.model.norm.weight'
    """
    return _WRAPPED.sub("", name.removeprefix("model."))


def is_adapter(name: str) -> bool:
    """Whether a weight belongs to an adapter."""
    return ".lora_" in name


def trained(step: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that are trained, by their names in `step`."""
    return ((name, p) for name, p in step.named_parameters() if p.requires_grad)


def _choose(step: nn.Module, recipe: Recipe) -> None:
    """Which weights are trained, and in which dtype each of them is."""
    fits = dict.fromkeys(recipe.freeze, False)
    adapted = recipe.method != "full"
    for long, weight in step.named_parameters():
        name = canonical(long)
        part = part_of(name)
        wanted = part in recipe.train
        if part == "language" and adapted:
            wanted = is_adapter(name)
        for pattern in recipe.freeze:
            if fnmatchcase(name, pattern):
                wanted, fits[pattern] = False, True
        if weight.is_floating_point():
            weight.requires_grad_(wanted)
            full = wanted or recipe.precision == "float32"
            weight.data = weight.data.to(torch.float32 if full else torch.bfloat16)
    if recipe.precision == "float32" and recipe.method != "qlora":
        step.float()  # buffers
    for pattern, fit in fits.items():
        if not fit:
            raise EarthMindError(
                f"freeze: {pattern!r} fits no weight.", change="language.model.layers.0.*"
            )
    if not any(True for _ in trained(step)):
        raise EarthMindError("freeze leaves nothing to train.", change="fewer patterns")


def _with_adapters(language: Any, recipe: Recipe) -> Any:
    import peft

    config = peft.LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,  # type: ignore[arg-type]  # peft divides it
        lora_dropout=recipe.lora.dropout,
        target_modules=r".*\.layers\..*\.(" + "|".join(recipe.lora.targets) + ")",
        use_dora=recipe.method == "dora",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft reads a name that transformers has renamed
        return peft.get_peft_model(language, config)


def _checkpoint(language: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the name changes between versions of transformers
        language.gradient_checkpointing_enable({"use_reentrant": False})


def _in_one_form(language: Any) -> None:
    """Keep numbers of 4 bits in the form that gradients go through.

    At the first look without gradients, such as the loss on a guard set before the first step,
    bitsandbytes packs them anew on a CPU with AVX512-BF16. No gradient comes through that form.
    """
    for layer in language.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _four_bits() -> Any:
    """The numbers of QLoRA."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(WHOLE),
    )
