"""The published checkpoints, and from a name to the folder that holds one; knows no torch."""

from __future__ import annotations

import importlib.resources
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from earthmind_lab.errors import EngineError, ModelNotFound
from earthmind_lab.exchange import Fusion
from earthmind_lab.model.files import not_a_folder
from earthmind_lab.model.memory import Sizes

LOG = logging.getLogger(__name__)
EMBEDDED = "nano"
"""The model that comes with the package."""
PARAMETERS = 3_941_813_810
"""Numbers in the 4B checkpoint; the multi-sensor one has 4096 fewer."""
LANGUAGE = 2_774_532_096
"""Those of them in the matrices of the language model's layers."""
SIZES = Sizes(
    layers=36,
    width=2048,
    inner=11008,
    query_width=2048,
    key_width=256,
    vocabulary=151679,
    tile_px=448,
    tile_positions=1025,
    tile_tokens=256,
    vision_width=1024,
    vision_inner=4096,
    most_tiles=12,
    thumbnail=True,
    mask_px=1024,
    mask_cells=65536,
    mask_embed=144,
    mask_width=256,
)
"""Of both published checkpoints."""
PATTERNS = ("*.json", "*.txt", "*.safetensors")
"""What is downloaded: never code, never pickles."""


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """One row of the table."""

    alias: str
    hub_id: str
    revision: str | None
    """Pinned commit. None: no commit could be verified when the table was written, so the newest
    is taken, with a warning; pass ``revision=`` to pin your own."""
    fusion: Fusion
    """How the code published with these weights joins optical and SAR. The weights can't tell."""
    template: str
    """Name in `config.TEMPLATES`."""
    licence: str
    """As stated with the weights."""
    sensors: str
    """What it was trained to take at once."""

    @property
    def bytes_at_bf16(self) -> int:
        """Memory of the weights alone; a pair of one tile each needs about 0.5 GB beside it."""
        return 2 * PARAMETERS


MODELS: tuple[PublishedModel, ...] = (
    PublishedModel(
        alias="EarthMind-4B",
        hub_id="sy1998/EarthMind-4B",
        revision=None,
        fusion="concatenate",
        template="phi3_chat",
        licence="not stated",
        sensors="one sensor; a pair by concatenation (June 2025 code)",
    ),
    PublishedModel(
        alias="EarthMind-4B-multi",
        hub_id="sy1998/EarthMind4B_multi",
        revision=None,
        fusion="weighted",
        template="phi3_chat",
        licence="not stated",
        sensors="a pair by question-conditioned weights (October 2025 code)",
    ),
)


def row_of(name: str) -> PublishedModel | None:
    """The row of an alias or hub id, whatever its case; None for anything else."""
    wanted = name.lower()
    return next((m for m in MODELS if wanted in (m.alias.lower(), m.hub_id.lower())), None)


def local_folder(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The folder that holds a model, downloaded where needed.

    Args:
        name: `EMBEDDED`, a folder, an alias of `MODELS`, or a hub id ``owner/name``.
        revision: Commit, branch or tag on the hub; default: the row's.

    Raises:
        ModelNotFound: Neither a folder nor a model that is cached or can be fetched.
        EngineError: The name is a file.
    """
    if str(name) == EMBEDDED:
        return Path(str(importlib.resources.files("earthmind_lab"))) / "weights" / EMBEDDED
    path = _path(name)
    if path is not None and path.is_dir():
        return path.resolve()
    if path is not None and path.is_file():
        raise not_a_folder(path)
    row = row_of(str(name))
    if row is not None:
        return _snapshot(row.hub_id, revision or row.revision)
    if _is_hub_id(str(name)):
        return _snapshot(str(name), revision)
    raise unknown(name)


def unknown(name: str | os.PathLike[str]) -> ModelNotFound:
    """The error for a name that means nothing."""
    shown = str(name) if len(str(name)) <= 200 else f"{str(name)[:197]}..."
    known = ", ".join(repr(model.alias) for model in MODELS)
    return ModelNotFound(
        f"There is no model {shown!r}.",
        found="neither a name this version knows nor a folder",
        change=f"{EMBEDDED!r}, or {known}, or a folder holding a checkpoint "
        "(config.json, tokenizer.json, *.safetensors)",
    )


def _path(name: str | os.PathLike[str]) -> Path | None:
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long; a user who does not exist; a NUL
        return None
    return path


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(
        part and part not in (".", "..") and part.replace("-", "a").replace("_", "a")
        .replace(".", "a").isalnum() and part.isascii()
        for part in parts
    )  # fmt: skip


def _snapshot(hub_id: str, revision: str | None) -> Path:
    """The cached or downloaded files of a hub repository."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise EngineError(
            "Models of the hub need huggingface_hub.", change="pip install 'earthmind-lab[model]'"
        ) from error
    if revision is None:
        LOG.warning(
            "%s is not pinned to a commit: pass revision=... to always get the same", hub_id
        )
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelNotFound(
            f"The model {hub_id!r} is neither in the local cache nor can it be fetched.",
            found=str(error).strip().splitlines()[0][:200],
            change=f"with a network: hf download {hub_id}; or copy the folder here "
            "and pass its path",
        ) from error
