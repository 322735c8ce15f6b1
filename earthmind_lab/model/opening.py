"""A checked folder to a model on a device: the part of loading that needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from earthmind_lab.errors import (
    EarthMindError,
    EngineError,
    EngineUnavailable,
    OutOfDeviceMemory,
)
from earthmind_lab.exchange import Fusion
from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
from earthmind_lab.model.processing import EarthMindProcessor

WHOLE = ("vision", "projector", "text_head", "sam", "lm_head", "local_query")
"""Parts that keep their own dtype when the language model gets fewer bits."""


def choose_device(asked: str | None) -> str:
    """The torch device to use, with its index, so that ``cuda`` and ``cuda:0`` are one.

    Args:
        asked: ``cpu``, ``cuda``, ``cuda:1``; None = a GPU where there is one.

    Raises:
        EngineUnavailable: torch knows no such device, or it isn't there.
    """
    name = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineUnavailable(
            f"torch knows no device {name!r}.", change="'cpu', 'cuda' or 'cuda:1'"
        ) from error
    if device.type != "cuda":
        return "cpu" if device.type == "cpu" else str(device)
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise EngineUnavailable(
            f"There is no device {name!r} here.",
            found=f"{torch.cuda.device_count()} CUDA devices",
            change="device='cpu'",
        )
    return f"cuda:{index}"


def gpus() -> list[str]:
    """The CUDA devices of this machine."""
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def cuda_memory(device: str) -> tuple[str, int, int]:
    """Name, free bytes and all bytes of a CUDA device.

    What torch has taken from the driver and uses no more is free to this process.
    """
    free, total = torch.cuda.mem_get_info(device)
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.get_device_name(device), free + idle, total


def open_model(
    folder: Path,
    *,
    device: str,
    dtype: str,
    bits: int | None = None,
    fusion: Fusion | None = None,
) -> tuple[EarthMindForConditionalGeneration, EarthMindProcessor]:
    """Read model and processor.

    Args:
        folder: config.json, tokenizer.json and safetensors weights.
        device: From `choose_device`.
        dtype: Name of a torch dtype.
        bits: 8 = the language part in so many, through torchao; None = all in `dtype`.
        fusion: Replaces what the folder says.

    Raises:
        EngineError: The files do not make a model.
        OutOfDeviceMemory: The weights do not fit on the device.
    """
    try:
        settings: dict[str, Any] = {"fusion": fusion} if fusion else {}
        if bits is not None:
            settings["quantization_config"] = _fewer_bits()
        model = _complete(folder, dtype, settings)
        processor = EarthMindProcessor.from_pretrained(folder, model.config)
        model.to(device)
    except EarthMindError:
        raise
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(
            f"The weights in {folder} do not fit on {device}.",
            change="dtype='bfloat16', or device='cpu'",
        ) from error
    except Exception as error:  # whatever is wrong in the files, the user needs the folder's name
        raise EngineError(
            f"The files in {folder} do not make a model.",
            found=f"{type(error).__name__}: {error}".splitlines()[0],
            change="the whole, unchanged folder of one model",
        ) from error
    return model, processor


def _fewer_bits() -> Any:
    """How transformers is told to keep the language model's layers in 8 bits."""
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig(version=2), modules_to_not_convert=list(WHOLE))


def _complete(folder: Path, dtype: str, settings: dict[str, Any]) -> Any:
    """The model on the CPU, without the library's progress bar."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model: Any = EarthMindForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, dtype), **settings
        )
    finally:
        if bars:
            logging.enable_progress_bar()
    return model.eval()
