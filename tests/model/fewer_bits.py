"""A model whose language part has fewer bits, in a process of its own: see `test_library`.

    python -m tests.model.fewer_bits FOLDER BITS        prints one JSON object

torchao is not part of the environment (`scripts/apart.py` says why), so the caller puts it on
PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
from transformers import TorchAoConfig

from earthmind_lab.model import EarthMindForConditionalGeneration
from earthmind_lab.model.batch import collate
from tests.model.parity import CASES, Run, built

KEEP = ["vision", "projector", "text_head", "sam", "lm_head", "local_query"]
"""Parts that stay in their own dtype when the language model gets fewer bits."""


def main(folder: Path, bits: int) -> dict[str, object]:
    """Load, answer, compare with the model of all bits."""
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig

    way = (
        Int8WeightOnlyConfig(version=2)
        if bits == 8
        else IntxWeightOnlyConfig(weight_dtype=torch.int4)
    )
    model = EarthMindForConditionalGeneration.from_pretrained(
        folder, quantization_config=TorchAoConfig(way, modules_to_not_convert=KEEP)
    )
    stem = CASES[0][0]
    plain, processor = built(stem, "sdpa")
    runs = [Run(each, name, plain, processor) for each, name in CASES if each == stem]
    batch = collate(processor, [r.prompt for r in runs if "image" in r.case and "text" in r.case])
    with torch.no_grad():
        exact, found = plain(**batch).logits, model(**batch).logits
    seen = batch["attention_mask"].bool()
    return {
        "language": type(model.language.model.layers[0].mlp.up_proj.weight).__module__,
        "vision": type(model.vision.encoder.layer[0].mlp.fc1.weight).__name__,
        "error": ((found - exact)[seen].square().mean().sqrt() / exact[seen].std()).item(),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201
