"""What the weights of a model take, from the headers of its files; knows no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from earthmind_lab.errors import ModelNotFound
from earthmind_lab.model.files import is_foreign, read_header, read_json, weight_files
from earthmind_lab.model.memory import ITEMSIZE, Sizes
from earthmind_lab.model.published import (
    EMBEDDED,
    LANGUAGE,
    MODELS,
    PARAMETERS,
    SIZES,
    local_folder,
    row_of,
)

HALF_PRECISION_FROM = 1 << 30
"""Bytes of weight files from which a GPU takes bfloat16 unless asked, and from which free memory
is looked at at all; below, exact repetition is worth more than the memory."""
_FLOATS = {"F64", "F32", "F16", "BF16"}
_WIDTH = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2}
_LANGUAGE = re.compile(r"^language(?:_model)?\.model\.layers\..*\.weight$")
"""The matrices that get fewer bits where that is asked for, in both layouts."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What the weight files of a model hold."""

    name: str
    numbers: int
    """All that take the dtype."""
    language: int = 0
    """Those of them in the matrices of the language model's layers."""
    other: int = 0
    """Bytes of tensors that keep their own type."""
    stored: int
    """Bytes of the files."""
    sizes: Sizes | None = None
    """None: a model of another kind, whose passes can't be told from here."""

    @classmethod
    def of(
        cls, folder: Path, files: Sequence[Path] | None = None, name: str | None = None
    ) -> Weights:
        """Read from the headers.

        Args:
            folder: Of the model, in either layout.
            files: Its weight files, where they are known already.
            name: What to call it; default: the folder's name.

        Raises:
            ModelNotFound: Files are missing or not what their names say.
            UnsafeCheckpoint: The weights are in a format that can run code.
        """
        files = weight_files(folder) if files is None else files
        numbers = language = other = 0
        for file in files:
            for key, about in read_header(file).items():
                count = math.prod(about["shape"])
                if about["dtype"] not in _FLOATS:
                    other += count * _WIDTH.get(about["dtype"], 1)
                    continue
                numbers += count
                language += count if len(about["shape"]) == 2 and _LANGUAGE.match(key) else 0
        return cls(
            name=name or folder.name,
            numbers=numbers,
            language=language,
            other=other,
            stored=sum(file.stat().st_size for file in files),
            sizes=None if is_foreign(folder) else _sizes(folder / "config.json"),
        )

    @property
    def small(self) -> bool:
        """Whether looking at the device first isn't worth it."""
        return self.stored <= HALF_PRECISION_FROM

    def nbytes(self, dtype: str, bits: int | None = None) -> int:
        """Bytes on the device; `bits` of each number of the language part."""
        itemsize = ITEMSIZE[dtype]
        if bits is None:
            return self.numbers * itemsize + self.other
        # The scale of each row is less than a hundredth of its numbers.
        return (self.numbers - self.language) * itemsize + self.language * bits // 8 + self.other


PUBLISHED = tuple(
    Weights(
        name=row.alias, numbers=PARAMETERS, language=LANGUAGE, stored=row.bytes_at_bf16, sizes=SIZES
    )
    for row in MODELS
)
"""The published checkpoints, known without their files."""


def find_weights(name: str | Path) -> Weights:
    """What is known of a model without fetching it: ``nano``, a published name, or a folder.

    Raises:
        ModelNotFound: None of them.
        UnsafeCheckpoint: The weights are in a format that can run code.
    """
    row = row_of(str(name))
    if row is not None and not _is_folder(name):
        return next(known for known in PUBLISHED if known.name == row.alias)
    if str(name) != EMBEDDED and not _is_folder(name):
        raise ModelNotFound(
            f"There is no model {str(name)[:200]!r} on this machine.",
            change=", ".join(
                (EMBEDDED, *(row.alias for row in MODELS), "or the folder of a model")
            ),
        )
    folder = local_folder(name)
    return Weights.of(folder, name="earthmind-nano" if str(name) == EMBEDDED else None)


def _is_folder(name: str | Path) -> bool:
    try:
        return Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):  # too long; a user who does not exist; a NUL
        return False


def _sizes(config: Path) -> Sizes:
    try:
        return Sizes.of(read_json(config))
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ModelNotFound(
            f"{config} does not describe an EarthMind model.",
            found=f"{type(error).__name__}: {error}"[:200],
            change="the unchanged config.json of the checkpoint",
        ) from error


def dtypes_for(weights: Weights, device: str) -> tuple[str, ...]:
    """Dtypes to try where none is asked for, best first."""
    if weights.small:
        return ("float32",)
    return ("float32", "bfloat16") if device == "cpu" else ("bfloat16",)
