"""Cut the reference runs down to what the committed parity tests need.

    python scripts/make_golden.py SOURCE [tests/golden/parity]

SOURCE holds, per stem, `<stem>.json` and `<stem>.golden.safetensors`, for the first stem also
`<stem>.model.safetensors` and `<stem>.tokenizer.json`, and the key list of the full-size model.
Weights and tokenizer are copied whole; of the cases only the named ones are kept, with their
tensors and the pictures they read.
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

CASES = {
    "tiny_a": ("single", "pair", "region", "segment", "multiturn_text", "sam_given"),
    "tiny_a_multi": ("pair", "pair_tiles"),
}
KEYS = "earthmind_4b_keys.json.gz"
"""Keys and shapes of the full-size checkpoint."""
LEFT_OUT = re.compile(
    r"^sam_.*\.(trunk\d|fpn\d_after_conv_s|vision_pos_enc_last|sam_pixel_values)$"
    r"|mask_logits_video_res$"
)
"""Stages that no test reads, or that other kept cases cover."""
LIMIT_BYTES = 18 * 1024 * 1024


def pictures(case: dict[str, Any]) -> set[str]:
    """Names of the tensors a case reads beside its own."""
    names: set[str] = set()
    for field in ("image", "rgb_image", "frames"):
        value = case.get(field, [])
        values = value if isinstance(value, list) else [value]
        names |= {f"image.{name}" for name in values if isinstance(name, str)}
    return names | ({case["mask_prompts"]} if "mask_prompts" in case else set())


def reduce(stem: str, cases: tuple[str, ...], source: Path, target: Path) -> int:
    """Write the named cases of one set; returns how many tensors they need."""
    spec = json.loads((source / f"{stem}.json").read_text())
    spec["cases"] = {
        name: case for name, case in spec["cases"].items() if name in cases or name == "_meta"
    }
    wanted = {name for case in spec["cases"].values() for name in pictures(case)}
    with safe_open(source / f"{stem}.golden.safetensors", "pt") as handle:
        kept = {
            key: handle.get_tensor(key)
            for key in list(handle.keys())
            if key in wanted or (key.split(".")[0] in cases and not LEFT_OUT.search(key))
        }
    save_file(kept, target / f"{stem}.golden.safetensors")
    (target / f"{stem}.json").write_text(json.dumps(spec, indent=1, ensure_ascii=False) + "\n")
    return len(kept)


def main() -> None:
    """Write the reduced set and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?", default=Path("tests/golden/parity"))
    arguments = parser.parse_args()
    source, target = arguments.source, arguments.target
    target.mkdir(parents=True, exist_ok=True)
    for stem, cases in CASES.items():
        print(f"{stem}: {reduce(stem, cases, source, target)} tensors")
    shutil.copyfile(source / KEYS, target / KEYS)
    first = next(iter(CASES))
    for suffix in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(source / f"{first}.{suffix}", target / f"{first}.{suffix}")
    total = sum(path.stat().st_size for path in target.iterdir())
    print(f"{total / 2**20:.1f} MiB in {target}")
    if total > LIMIT_BYTES:
        raise SystemExit(f"more than {LIMIT_BYTES / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
