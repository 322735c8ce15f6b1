"""The map notebook in a page, in JupyterLab or Notebook 7.

    notebook = Notebook.open(lab, visit)         `lab` is a `lab_server.Lab`
    notebook.fresh()                             a map over a new session, in the page as it is
    notebook.run(1); notebook.state()            a cell; the session as plain data
    notebook.second_tab(); notebook.kill(); notebook.offline(); notebook.theme("dark")

The page hands out the application's own object (a switch of both applications), by which a test
selects cells and reads Python state through the notebook's own kernel.
"""

from __future__ import annotations

import ast
import json
import os
import signal
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, expect

from tests.browser.conftest import PAGE_SECONDS, START_SECONDS, Visitor
from tests.browser.lab_server import Lab
from tests.browser.shots import whole

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
KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
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
WINDOWING = """(windowingMode) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.notebookConfig = {...notebook.notebookConfig, windowingMode};
}"""
TO_TOP = """() => document.querySelector('.jp-OutputArea-output:has(.em-work)')
  .scrollIntoView({block: 'start'})"""
SHARE = """(part) => new Promise((done) => {
  const seen = new IntersectionObserver(([entry]) => {
    seen.disconnect();
    done(entry.intersectionRatio);
  });
  seen.observe(part);
})"""
"""How much of an element no edge of a scrolled part, nor the page's, cuts away."""
OWN_ERRORS = (
    # The applications ask for files that a notebook need not have.
    r"status of 404 .*(/api/|/lab/)",
    # A kernel that talks on while a page opens talks of widgets the page has yet to fetch.
    r"^Comm not found for comm id .*/(lab/jlab_core|static/notebook/)",
    # Notebook 7.6 looks for the settings of a part of JupyterLab that it leaves out.
    r"^TypeError: Cannot read properties of undefined \(reading 'schema'\)\n.*/static/notebook/",
    # jupyter-leaflet: a map that is closed while it flies.
    r"^TypeError: Cannot convert undefined or null to object\n(?s:.*)\.update_bounds ",
    # And it puts a control's widget into the page by itself, and lets go of it first.
    r"^Error: Widget is not attached\.(?s:.*) AnyView\.remove ",
)
"""Console errors of JupyterLab and Notebook themselves."""
WIDTH, HEIGHT = 1400, 900
"""Of a page, in px: a laptop's."""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


class Notebook:
    """The map notebook in a browser."""

    def __init__(self, lab: Lab, visitor: Visitor) -> None:
        self.lab, self.visitor, self.page = lab, visitor, visitor.page
        self._theme = "light"
        self.connected()

    @classmethod
    def open(cls, lab: Lab, visit: Callable[..., Visitor]) -> Notebook:
        """It, in a browser of its own."""
        return cls(lab, visit(lab.url, allowed=OWN_ERRORS, width=WIDTH, height=HEIGHT))

    def second_tab(self) -> Notebook:
        """The same notebook and kernel in another tab, on the newest map; to be closed."""
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        tab = Notebook(self.lab, self.visitor.tab(self.lab.url))
        tab.show(self.lab.fresh_cell)  # what is far from sight is not drawn
        expect(tab.map).to_be_visible()
        return tab

    def fresh(self, pace: float = 0.0, *, kept: str | None = None) -> None:
        """A map over a new session in memory; page, network and theme as in the beginning.

        Args:
            pace: Seconds between two tokens of the model.
            kept: Name of a session that a file keeps: then it goes on where it was.
        """
        self.online()
        self.theme("light")
        self.size()
        self.windowing("contentVisibility")
        self.execute(f"kept = {kept!r}")
        self.run(self.lab.fresh_cell)
        expect(self.map).to_be_visible()
        self.pace(pace)

    def pace(self, seconds: float) -> None:
        """How long the model takes from token to token."""
        self.execute(f"from tests.browser.lab_kernel import pace; pace(m.session, {seconds})")

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

    def busy(self) -> None:
        """Wait until the kernel runs a cell."""
        self.page.wait_for_function(f"{KERNEL}.status === 'busy'")

    def connected(self) -> None:
        """Wait until the page and its kernel hear each other."""
        self.page.wait_for_function(
            f"{KERNEL}?.connectionStatus === 'connected'"
            " && window.jupyterapp.shell.currentWidget.sessionContext.isReady"
        )

    # --- what goes wrong, and how it looks -------------------------------------------------------

    def restart(self) -> None:
        """A new kernel process, as by the menu."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()"
        )

    def kill(self) -> None:
        """End the kernel's process as the system does where memory runs out; it comes again."""
        pid = self.value("__import__('os').getpid()")
        os.kill(pid, signal.SIGKILL)
        expect(self.page.get_by_role("dialog")).to_contain_text("appears to have died")
        self.dismiss()
        self.connected()

    def windowing(self, mode: str) -> None:
        """Which cells the page holds: "full" = those in sight only, "defer", "none", ..."""
        self.page.evaluate(WINDOWING, mode)

    def dismiss(self) -> None:
        """What the application tells in a dialog, read and closed."""
        dialog = self.page.get_by_role("dialog")
        while dialog.count():
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(100)

    def offline(self) -> None:
        """Take the network from the browser."""
        self.visitor.context.set_offline(True)
        self.cut()

    def online(self) -> None:
        """Give it back, and the wire to the server, too."""
        self.visitor.context.set_offline(False)
        if self.lab.relay is not None:
            self.lab.relay.mend()
        self.connected()
        self.dismiss()

    def cut(self) -> None:
        """Take the server from a browser that is still on the net: a hub or a tunnel that ended."""
        assert self.lab.relay is not None, "Lab(..., relay=relay)"
        self.lab.relay.cut()

    def theme(self, name: str) -> None:
        """The application's "light" or "dark" one."""
        if name == self._theme:
            return
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
            THEMES[name],
        )
        light = str(name == "light").lower()
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", light)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)  # it covers the page
        self._theme = name

    def size(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        """Of the page, in px; JupyterLab's list of files makes room where it is narrow."""
        if self.page.viewport_size != {"width": width, "height": height}:
            self.page.set_viewport_size({"width": width, "height": height})
        files = self.page.locator("#jp-left-stack")
        if self.lab.app == "lab" and files.is_visible() != (width >= WIDTH):
            self.page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")

    def shot(self, name: str) -> None:
        """A picture of the map and its panels as a whole."""
        output = self.page.locator(".jp-OutputArea-output:has(.leaflet-container)").last
        with whole(self.page, output):
            self.visitor.shots.take(name, output)

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

    def unfold(self, panel: Locator) -> None:
        """Show what a panel's heading has folded, or is about to."""
        heading = panel.locator(".em-folder")
        expect(heading).to_have_attribute("aria-expanded", "false")
        heading.click()

    def in_sight(self) -> None:
        """Fail unless map and chat are both in the page's part that shows the notebook."""
        self.page.evaluate(TO_TOP)
        for part in self.map, self.chat:
            assert part.evaluate(SHARE) > 0.99

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
