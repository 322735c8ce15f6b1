"""The ipykernel versions that the browser tests run with: 7.3 and 7.4 route messages differently.

    python scripts/other_kernel.py        installs those that are missing; nothing to do otherwise

Each lies alone in a folder beside the environment's packages, which it goes before on PYTHONPATH;
the environment itself keeps the version that pip chose.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

VERSIONS = ("7.3.0", "7.4.0")
KERNELS = Path(__file__).resolve().parents[1] / ".venv" / "kernels"


def folder_of(wanted: str) -> Path | None:
    """Where an ipykernel of this version lies; None = the environment's own is it."""
    return None if version("ipykernel") == wanted else KERNELS / wanted


def install(wanted: str) -> None:
    """Put one version into its folder, unless it is there; ends the script where it can't be."""
    folder = folder_of(wanted)
    if folder is None or (folder / "ipykernel" / "__init__.py").is_file():
        return
    draft = KERNELS / f".{wanted}-{os.getpid()}"
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--target", str(draft), f"ipykernel=={wanted}",
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode:
        shutil.rmtree(draft, ignore_errors=True)
        sys.exit(f"ipykernel {wanted} can't be installed. Try with a network: {' '.join(command)}")
    try:
        draft.rename(folder)  # complete or not there, whatever else installs it meanwhile
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)


def main() -> None:
    """Install what is missing."""
    for wanted in VERSIONS:
        install(wanted)


if __name__ == "__main__":
    main()
