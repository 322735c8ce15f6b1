"""Cut the reference runs down to what the committed parity tests need.

    python scripts/make_golden.py SOURCE [tests/golden/parity]

SOURCE holds what `tests/model/parity.py` describes. Weights, tokenizer and key list are copied
whole. Of each data set all cases are kept but for `CASES_LEFT_OUT`; of their tensors those that
say most per byte.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

STEMS = ("tiny_a", "tiny_a_multi")
TRAINING = ("tiny_a.train", "tiny_a_multi.train")
CASES_LEFT_OUT = ("sam_given", "segment_composites", "segment_pair")
"""What they show, `sam_frames`, `composites` and `segment` (or a pair's own case) show too."""
KEYS = "earthmind_4b_keys.json.gz"
"""Keys and shapes of the full-size checkpoint."""
LEFT_OUT = re.compile(
    r"\.(trunk[0-2]|fpn\d_after_conv_s|vision_pos_enc_last|sam_pixel_values|mask_logits_video_res)$"
    r"|^(?!single\.).*\.(rgb_)?pixel_values$"
    r"|^(?!segment).*\.sam_mask_logits\.\d+$"
    r"|^(?!single\.|pair\.).*\.(llm_logits|pixel_values\.vit_last_hidden)$"
    r"|^(?!single\.|pair).*\.(llm_last_hidden|inputs_embeds)$"
)
"""Large stages, kept for one or two cases or recomputed from the picture."""
SHARED = re.compile(r"^pair\.(rgb_)?pixel_values$")
"""The second training set repeats these of the first."""
LIMIT_BYTES = 18_000_000


def pictures(case: dict[str, Any]) -> set[str]:
    """Names of the tensors a case reads beside its own."""
    names: set[str] = set()
    for field in ("image", "rgb_image", "frames"):
        value = case.get(field, [])
        values = value if isinstance(value, list) else [value]
        names |= {f"image.{name}" for name in values if isinstance(name, str)}
    return names | ({case["mask_prompts"]} if "mask_prompts" in case else set())


def reduce(stem: str, source: Path, target: Path) -> int:
    """Write the kept cases of one set; returns how many tensors they need."""
    spec = json.loads((source / f"{stem}.json").read_text())
    for name in CASES_LEFT_OUT:
        if not (stem.endswith("_multi") and name == "segment_pair"):
            spec["cases"].pop(name, None)
    cases = {name for name in spec["cases"] if not name.startswith("_")}
    wanted = {name for case in cases for name in pictures(spec["cases"][case])}
    with safe_open(source / f"{stem}.golden.safetensors", "pt") as handle:
        kept = {
            key: handle.get_tensor(key)
            for key in list(handle.keys())
            if key in wanted or (key.split(".")[0] in cases and not LEFT_OUT.search(key))
        }
    save_file(kept, target / f"{stem}.golden.safetensors")
    (target / f"{stem}.json").write_text(json.dumps(spec, indent=1, ensure_ascii=False) + "\n")
    return len(kept)


def reduce_training(stem: str, source: Path, target: Path, *, first: bool) -> int:
    """Write the training samples of one set; the same."""
    with safe_open(source / f"{stem}.safetensors", "pt") as handle:
        kept = {
            key: handle.get_tensor(key)
            for key in list(handle.keys())
            if (first or not SHARED.search(key)) and not key.endswith((".logits", ".inputs_embeds"))
        }
    save_file(kept, target / f"{stem}.safetensors")
    shutil.copyfile(source / f"{stem}.json", target / f"{stem}.json")
    return len(kept)


def main() -> None:
    """Write the reduced set and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?", default=Path("tests/golden/parity"))
    arguments = parser.parse_args()
    source, target = arguments.source, arguments.target
    target.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        print(f"{stem}: {reduce(stem, source, target)} tensors")
    for stem in TRAINING:
        count = reduce_training(stem, source, target, first=stem == TRAINING[0])
        print(f"{stem}: {count} tensors")
    shutil.copyfile(source / KEYS, target / KEYS)
    first = STEMS[0]
    for suffix in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(source / f"{first}.{suffix}", target / f"{first}.{suffix}")
    total = sum(path.stat().st_size for path in target.iterdir())
    print(f"{total / 1e6:.2f} MB in {target}")
    if total > LIMIT_BYTES:
        raise SystemExit(f"more than {LIMIT_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
