"""Packages that tests run with but the environment doesn't hold.

    python scripts/apart.py        installs those that are missing; nothing to do otherwise

Each lies alone in a folder of its own, which goes before the environment's packages on PYTHONPATH:
ipykernel 7.3 and 7.4, because they route messages differently and people have either; torchao,
because transformers imports it wherever it finds it, which takes a second and writes warnings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

KERNELS = ("7.3.0", "7.4.0")
TORCHAO = "0.18.0"
APART = (*(("ipykernel", kernel) for kernel in KERNELS), ("torchao", TORCHAO))
FOLDERS = Path(__file__).resolve().parents[1] / ".venv" / "apart"


def folder_of(package: str, wanted: str) -> Path | None:
    """Where a package of this version lies; None = the environment's own is it."""
    try:
        if version(package) == wanted:
            return None
    except PackageNotFoundError:
        pass
    return FOLDERS / f"{package}-{wanted}"


def install(package: str, wanted: str) -> None:
    """Put one package into its folder, unless it is there; ends the script where it can't be."""
    folder = folder_of(package, wanted)
    if folder is None or (folder / package / "__init__.py").is_file():
        return
    draft = FOLDERS / f".{package}-{wanted}-{os.getpid()}"
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--target", str(draft), f"{package}=={wanted}",
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode:
        shutil.rmtree(draft, ignore_errors=True)
        sys.exit(f"{package} {wanted} can't be installed. With a network: {' '.join(command)}")
    try:
        draft.rename(folder)  # complete or not there, whatever else installs it meanwhile
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)


def main() -> None:
    """Install what is missing."""
    for package, wanted in APART:
        install(package, wanted)


if __name__ == "__main__":
    main()
