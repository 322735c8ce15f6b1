"""JupyterLab on the map notebook: ``earthmind lab``.

The server listens on loopback and asks for a token; its address, token included, is in what it
prints. Without a display it only serves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from earthmind_lab.errors import EarthMindError

NOTEBOOK = "map_chat.ipynb"
_PACKAGE = Path(__file__).resolve().parent
# In a wheel the notebook lies inside the package, in a clone beside it.
_HOMES = (_PACKAGE / "notebooks", _PACKAGE.parent / "notebooks")


def open_lab(folder: str | Path | None = None, *, port: int = 8888, browser: bool = True) -> int:
    """Serve JupyterLab on the map notebook until it is stopped.

    Args:
        folder: Where to work; the notebook is copied there if it isn't there yet. Default: the
            clone itself, with its ``notebooks`` and ``tutorials``, or for an installed package the
            current folder.
        port: Port on 127.0.0.1; the next free one is taken where it is in use.
        browser: Whether to open a browser where there is a display.

    Returns:
        JupyterLab's exit code; 130 for Ctrl-C.

    Raises:
        EarthMindError: JupyterLab isn't installed, or the folder can't be written.
    """
    if find_spec("jupyterlab") is None:
        raise EarthMindError(
            "JupyterLab isn't installed here.",
            found=sys.prefix,
            change="pip install 'earthmind_lab[lab,model]'",
        )
    notebook = notebook_in(folder)
    own = folder is None and notebook.parent == _HOMES[1]
    root = notebook.parent.parent if own else notebook.parent  # a clone has tutorials/, too
    command = lab_command(notebook, root=root, port=port, browser=browser)
    with subprocess.Popen(command) as server:  # noqa: S603  our own words, no shell
        try:
            return server.wait()
        except KeyboardInterrupt:  # the server got it too and ends by itself
            server.wait()
            return 130


def notebook_in(folder: str | Path | None = None) -> Path:
    """The notebook to work in; a copy of the package's where the folder has none.

    Raises:
        EarthMindError: The folder can't be written, or the installation lacks the notebook.
    """
    source = next((home / NOTEBOOK for home in _HOMES if (home / NOTEBOOK).is_file()), None)
    if folder is None and source is not None and source.parent == _HOMES[1]:
        return source
    target = Path(folder or ".").expanduser().resolve() / NOTEBOOK
    if target.is_file():
        return target
    if source is None:
        raise EarthMindError(
            f"The installation lacks {NOTEBOOK}.", change="install earthmind_lab again"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise EarthMindError(
            f"The notebook can't be written to {str(target.parent)!r}.",
            found=str(error),
            change="--folder with a folder that you may write",
        ) from error
    return target


def lab_command(
    notebook: Path, *, root: Path, port: int, browser: bool, env: Mapping[str, str] | None = None
) -> list[str]:
    """The command that serves a notebook, and what lies in ``root``, on loopback with a token."""
    env = os.environ if env is None else env
    shown = sys.platform != "linux" or bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))
    command = [
        sys.executable, "-m", "jupyterlab", str(notebook),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={root}",
        # What it prints and opens is the notebook, not the launcher.
        f"--LabApp.default_url=/lab/tree/{notebook.relative_to(root).as_posix()}",
        # Asks for no news: nothing leaves the machine, and no pop-up covers the map.
        f"--LabApp.app_settings_dir={_PACKAGE / 'lab_settings'}",
    ]  # fmt: skip
    if not (browser and shown):
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers; the token still guards the server
    return command
