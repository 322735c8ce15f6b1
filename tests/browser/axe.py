"""What axe-core finds wrong in a part of a page: names, roles, contrast, keyboard.

    assert axe(page, ".em-chat") == []

axe-core (MPL-2.0) comes with the browser side's tools and runs in the page; the package never holds
it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from playwright.sync_api import Page

from scripts.build_widgets import PROJECT, install
from tests import apt
from tests.browser.shots import whole

RUN = """async (selector) => {
  const roots = document.querySelectorAll(selector);
  if (roots.length !== 1) throw new Error(`${roots.length} elements are ${selector}, not one`);
  const [root] = roots;
  // axe-core doesn't know what overflow hides: JupyterLab's body, 0 px high, would hide the whole
  // page; a map's pictures would cover what stands beside the map.
  const maps = [...document.querySelectorAll('.leaflet-container')]
    .filter((map) => !map.contains(root));
  const dress = (height, visibility) => {
    document.body.style.minHeight = height;
    for (const map of maps) map.style.visibility = visibility;
  };
  dress('100vh', 'hidden');
  root.scrollIntoView({block: 'start'});  // out of sight, it would be taken for covered
  const {violations, incomplete, passes} = await window.axe.run(root).finally(() => dress('', ''));
  const lines = (rule) => rule.nodes.map((node) => `${rule.id} (${rule.impact}): ` +
    `${node.target.join(' ')}: ${node.failureSummary.replace(/\\s+/g, ' ')}`);
  const contrast = (rules) => rules.filter((rule) => rule.id === 'color-contrast');
  const measured = contrast([...violations, ...passes]).flatMap((rule) => rule.nodes)
    .filter((node) => node.any.some((check) => check.data?.contrastRatio > 0));
  // A sign or a letter needs no measure; what is half out of a scrolled box is measured elsewhere,
  // and so are the colours of the words in a drawing (SVG), which are those of the hints around it.
  const fine = /nonBmp|shortTextContent|elmPartiallyObscured|imgNode/;
  const unsure = contrast(incomplete).map((rule) => ({...rule, nodes: rule.nodes
    .filter((node) => !node.any.some((check) => fine.test(check.data?.messageKey)))}));
  return {lines: [...violations, ...unsure].flatMap(lines), measured: measured.length};
}"""


def axe(page: Page, selector: str) -> list[str]:
    """Each violation in a line: rule, weight, place, what to mend. Unsure contrast is one.

    Args:
        page: Where to look.
        selector: Of one element; nothing outside it is looked at.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(_script())
    with whole(page, page.locator(selector)):
        found: dict[str, Any] = page.evaluate(RUN, selector)
    lines: list[str] = found["lines"]
    assert lines or found["measured"], f"axe-core found no text to read in {selector}"
    return lines


@cache
def _script() -> str:
    with apt.alone():  # two processes never install into one folder at once
        install()
    return (PROJECT / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
