"""The servers of the browser tests: JupyterLab or Notebook 7, with files and a kernel of their own.

lab = Lab(serve, folder, kernel="7.4.0", app="notebook")
lab.url                                      what a user opens
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from earthmind_lab.lab import NOTEBOOK, lab_command
from scripts.apart import folder_of, install
from tests.browser.conftest import ROOT, Server, free_port
from tests.browser.relay import Relay

FRESH = "from tests.browser.lab_kernel import fresh\n\nm = fresh(**globals())\nm"
"""The cell that `Notebook.fresh` runs."""


class Lab:
    """A server with a folder, a state and a kernel of its own.

    Args:
        serve: The fixture of this name.
        folder: For all of its files.
        kernel: Version of ipykernel.
        app: "lab", or "notebook" for Notebook 7.
        prefix: Where on its host the server is, as behind a hub: "/user/ann/".
        relay: The fixture of this name: the connection can be cut.
        cells: Code cells to append to the notebook's copy.
    """

    def __init__(
        self, serve: Callable[..., Server], folder: Path, *, kernel: str, app: str = "lab",
        prefix: str = "/", relay: Callable[[str], Relay] | None = None,
        cells: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        install("ipykernel", kernel)
        self.folder, self.kernel, self.app = folder, kernel, app
        self.name = f"{app}-{kernel}{prefix.rstrip('/').replace('/', '-')}"
        notebook = folder / "root" / NOTEBOOK
        notebook.parent.mkdir(parents=True)
        shutil.copyfile(ROOT / "notebooks" / NOTEBOOK, notebook)
        self.fresh_cell, *self.own_cells = _append(notebook, (FRESH, *cells))
        _kernelspec(folder / "jupyter" / "kernels" / "python3", kernel)
        env = {
            "EARTHMIND_HOME": str(folder / "home"),
            "JUPYTER_PATH": str(folder / "jupyter"),
            **{f"JUPYTER_{name}_DIR": str(folder / name.lower())
               for name in ("CONFIG", "DATA", "RUNTIME")},
            "IPYTHONDIR": str(folder / "ipython"),
        }  # fmt: skip
        command = [*_command(app, notebook), "--expose-app-in-browser"]
        if prefix != "/":
            command.append(f"--ServerApp.base_url={prefix}")
            env["JUPYTERHUB_SERVICE_PREFIX"] = prefix
        where = f"{prefix}{'lab/tree' if app == 'lab' else 'notebooks'}/{NOTEBOOK}"
        self.server = serve(command, env=env, ready=rf"(http://127\.0\.0\.1:\d+{where}\?token=\S+)")
        self.url = self.server.url  # as printed: what a user opens
        self.relay = relay(self.url) if relay is not None else None
        if self.relay is not None:
            self.url = self.relay.url

    def let_go(self) -> None:
        """End the cell that `lab_kernel.stay_busy` holds."""
        (self.folder / "home" / "let-go").touch()

    def saved_names(self) -> list[str]:
        """Of the sessions that files keep."""
        return sorted(path.stem for path in (self.folder / "home" / "sessions").glob("*.json"))

    def saved(self, name: str = "map") -> dict[str, Any]:
        """The session's file."""
        text = (self.folder / "home" / "sessions" / f"{name}.json").read_text(encoding="utf-8")
        data: dict[str, Any] = json.loads(text)
        return data


def _append(notebook: Path, cells: tuple[str, ...]) -> list[int]:
    """Add code cells; where they are."""
    data = json.loads(notebook.read_text(encoding="utf-8"))
    before = len(data["cells"])
    for number, source in enumerate(cells):
        data["cells"].append(
            {"cell_type": "code", "id": f"own-{number}", "metadata": {}, "outputs": [],
             "execution_count": None, "source": source}
        )  # fmt: skip
    notebook.write_text(json.dumps(data), encoding="utf-8")
    return list(range(before, len(data["cells"])))


def _command(app: str, notebook: Path) -> list[str]:
    """What serves the notebook, and what it prints as its address."""
    port = free_port()
    if app == "lab":
        return lab_command(notebook, root=notebook.parent, port=port, browser=False)
    command = [
        sys.executable, "-m", "notebook", "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={notebook.parent}",
        f"--JupyterNotebookApp.default_url=/notebooks/{notebook.name}",
    ]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command


def _kernelspec(folder: Path, kernel: str) -> None:
    """The environment's Python with one version of ipykernel, and the tests' own modules."""
    folder.mkdir(parents=True)
    first = folder_of("ipykernel", kernel)
    path = [str(each) for each in (first, ROOT) if each is not None]
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": f"ipykernel {kernel}",
        "language": "python",
        "env": {"PYTHONPATH": ":".join(path)},
        "metadata": {"debugger": False},
    }
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
