"""Data can be read, split and checked where there is no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODULES = (
    "answers areas asks card checking conversations embedded examples folders footprints frames "
    "ground labelled labels leaks opening plain_pickle questions reading refer regions report "
    "rights scoring sets shapes shown source splits telling views"
).split()


def test_no_torch_for_data(tmp_path):
    names = ", ".join(f"earthmind_lab.finetune.{name}" for name in MODULES)
    code = (
        "import sys\n"
        f"import {names}\n"
        "heavy = {'torch', 'transformers', 'peft', 'accelerate', 'av'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True,
        text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
