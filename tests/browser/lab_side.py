"""JupyterLab for browser tests: the server that `earthmind lab` starts, and one open notebook.

    lab = Lab(serve, folder, kernel="7.4.0")     its own files, state and kernel
    notebook = Notebook(lab, visit(lab.url))
    notebook.run(1); notebook.state()            a cell; the session as plain data

The page hands out JupyterLab's own application object (a switch of JupyterLab), by which a test
selects cells and reads Python state through the notebook's own kernel.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, expect

from earthmind_lab.lab import NOTEBOOK, lab_command
from scripts.apart import folder_of, install
from tests.browser.conftest import PAGE_SECONDS, ROOT, START_SECONDS, Server, Visitor, free_port

STATE = "__import__('tests.browser.lab_kernel', fromlist=['state']).state(m.session)"
ENDS = """async (work, session, seconds) => {
  let late, again;
  const state = () => `${session.kernel?.connectionStatus}, ${session.kernel?.status}`;
  const limit = new Promise((_, no) => {
    late = setTimeout(() => no(new Error(`no end; the kernel is ${state()}`)), 1000 * seconds);
  });
  again = setInterval(() => {
    const other = session.kernel?.clone();
    setTimeout(() => other?.dispose(), 2000);
  }, 10000);
  return Promise.race([work, limit]).finally(() => { clearTimeout(late); clearInterval(again); });
}"""
"""Wait for work of the kernel, within a limit. Until our widgets remind it
(`earthmind_lab.kernel`), a kernel of ipykernel 7.3 may overlook a request; a further connection
lets it look again."""
EXECUTE = f"""async ([code, expression, seconds]) => {{
  const session = window.jupyterapp.shell.currentWidget.sessionContext.session;
  const wanted = expression === null ? {{}} : {{it: expression}};
  const future = session.kernel.requestExecute(
    {{code, silent: code === '', store_history: false, user_expressions: wanted}});
  return (await ({ENDS})(future.done, session, seconds)).content;
}}"""
RUN = f"""async ([seconds]) => {{
  const session = window.jupyterapp.shell.currentWidget.sessionContext.session;
  await ({ENDS})(window.jupyterapp.commands.execute('notebook:run-cell'), session, seconds);
}}"""
ACTIVATE = """(index) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = index;
  return notebook.scrollToItem(index, 'start');
}"""
OWN_ERRORS = (
    # JupyterLab asks for files that a notebook need not have.
    r"status of 404 .*(/api/|/lab/)",
    # A kernel that talks on while a page opens talks of widgets the page has yet to fetch.
    r"^Comm not found for comm id .*/lab/jlab_core",
)
"""Console errors of JupyterLab itself."""


class Lab:
    """A server with a folder, a state and a kernel of its own.

    Args:
        serve: The fixture of this name.
        folder: For all of its files.
        kernel: Version of ipykernel.
        cells: Code cells to append to the notebook's copy.
    """

    def __init__(
        self, serve: Callable[..., Server], folder: Path, *, kernel: str,
        cells: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        install("ipykernel", kernel)
        self.folder, self.kernel = folder, kernel
        notebook = folder / "root" / NOTEBOOK
        notebook.parent.mkdir(parents=True)
        shutil.copyfile(ROOT / "notebooks" / NOTEBOOK, notebook)
        self.own_cells = _append(notebook, cells)
        _kernelspec(folder / "jupyter" / "kernels" / "python3", kernel)
        command = lab_command(notebook, root=notebook.parent, port=free_port(), browser=False)
        env = {
            "EARTHMIND_HOME": str(folder / "home"),
            "JUPYTER_PATH": str(folder / "jupyter"),
            **{f"JUPYTER_{name}_DIR": str(folder / name.lower())
               for name in ("CONFIG", "DATA", "RUNTIME")},
            "IPYTHONDIR": str(folder / "ipython"),
        }  # fmt: skip
        self.server = serve(
            [*command, "--expose-app-in-browser"], env=env,
            ready=r"(http://127\.0\.0\.1:\d+/lab\S*token=\S+)",
        )  # fmt: skip
        self.url = self.server.url  # as printed: what a user opens
        assert f"/lab/tree/{NOTEBOOK}?" in self.url

    def let_go(self) -> None:
        """End the cell that `lab_kernel.stay_busy` holds."""
        (self.folder / "home" / "let-go").touch()

    def saved(self, name: str = "map") -> dict[str, Any]:
        """The session's file."""
        text = (self.folder / "home" / "sessions" / f"{name}.json").read_text(encoding="utf-8")
        data: dict[str, Any] = json.loads(text)
        return data


class Notebook:
    """The map notebook in a browser."""

    def __init__(self, lab: Lab, visitor: Visitor) -> None:
        self.lab, self.visitor, self.page = lab, visitor, visitor.page
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.connectionStatus === 'connected'"
            " && window.jupyterapp.shell.currentWidget.sessionContext.isReady"
        )

    # --- cells -----------------------------------------------------------------------------------

    def run(self, index: int) -> None:
        """A cell, to its end, as Ctrl+Enter does."""
        self.show(index)
        self.page.evaluate(RUN, [START_SECONDS])

    def start(self, index: int) -> None:
        """A cell, without waiting for its end."""
        self.show(index)
        self.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")

    def show(self, index: int) -> None:
        """Scroll to a cell."""
        self.page.evaluate(ACTIVATE, index)

    def execute(self, code: str) -> None:
        """Run code beside the cells and wait for it."""
        content = self.page.evaluate(EXECUTE, [code, None, START_SECONDS])
        assert content["status"] == "ok", content

    def value(self, expression: str) -> Any:
        """What an expression gives in the kernel, as JSON; waits for the cell that runs."""
        dumped = f"__import__('json').dumps({expression})"
        content = self.page.evaluate(EXECUTE, ["", dumped, START_SECONDS])
        found = content["user_expressions"]["it"]
        assert found["status"] == "ok", found
        return json.loads(ast.literal_eval(found["data"]["text/plain"]))

    def restart(self) -> None:
        """A new kernel process, as after a crash."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()"
        )

    # --- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The session behind the map."""
        found: dict[str, Any] = self.value(STATE)
        return found

    def until(self, holds: Callable[[Any], Any], expression: str = STATE) -> Any:
        """The state, or what an expression gives in the kernel, once something holds of it."""
        for _ in range(int(PAGE_SECONDS / 0.1)):
            found = self.value(expression)
            if holds(found):
                return found
            self.page.wait_for_timeout(100)  # lets the page's own events through
        raise AssertionError(f"never came: {found}")

    def subject(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.state()["subjects"][name]
        return found

    # --- parts -----------------------------------------------------------------------------------

    @property
    def map(self) -> Locator:
        return self.page.locator(".leaflet-container")

    @property
    def chat(self) -> Locator:
        return self.page.get_by_role("region", name="Chat")

    @property
    def talk(self) -> Locator:
        return self.page.get_by_role("log", name="Talk")

    @property
    def pairs(self) -> Locator:
        return self.page.get_by_role("region", name="Pairs")

    def ask(self, question: str) -> None:
        """Type into the panel, and Enter."""
        self.chat.first.get_by_label("Question", exact=True).fill(question)
        self.page.keyboard.press("Enter")

    def rectangle(self, *corners: float) -> None:
        """Draw one with the mouse: left, top, right, bottom as shares of the map's size."""
        self.page.locator("a.leaflet-draw-draw-rectangle").click()
        left, top, right, bottom = corners
        self.drag((left, top), (right, bottom))

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """The mouse over the map with its button down: (x, y) as shares of the map's size."""
        box = self.map.bounding_box()
        assert box is not None
        (x0, y0), (x1, y1) = (
            (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (begin, end)
        )
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        self.page.mouse.move(x1, y1, steps=8)
        self.page.mouse.up()


def shown(pictures: Locator) -> None:
    """Fail unless each picture is decoded and visible."""
    for picture in pictures.all():
        expect(picture).to_be_visible()
        assert picture.evaluate("each => each.decode().then(() => each.naturalWidth)") > 0


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


def text_of(visitor: Visitor) -> str:
    """All visible words of the page."""
    return re.sub(r"\s+", " ", visitor.page.locator("body").inner_text())
