"""Styles of one panel don't reach into another: all of them lie on one page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "widgets" / "src"
SHARED = {"panel.css", "candidates.css"}
STYLES = sorted(path for path in SOURCE.glob("*.css") if path.name not in SHARED)


def loose(css: str) -> set[frozenset[str]]:
    """Classes of each outermost selector that doesn't say whose panel it is for."""
    root = re.search(r"^\.([\w-]+) \{", css, re.MULTILINE)[1]
    found, depth, selector = set(), 0, ""
    for char in re.sub(r"/\*.*?\*/|@import[^;]*;", "", css, flags=re.DOTALL):
        if char == "{":
            if depth == 0 and not selector.strip().startswith("@"):
                parts = [re.findall(r"\.([a-z][\w-]+)", part) for part in selector.split(",")]
                found |= {frozenset(names) for names in parts if names and root not in names}
            depth, selector = depth + 1, ""
        elif char == "}":
            depth, selector = depth - 1, ""
        else:
            selector += char
    return found


def used(name: str) -> set[str]:
    """Classes that the code of a panel gives, its modules included."""
    seen, waiting, text = set(), [SOURCE / f"{name}.ts"], ""
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        text += (own := path.read_text(encoding="utf-8"))
        waiting += [SOURCE / f"{each}.ts" for each in re.findall(r'from "\./(\w+)', own)]
    return set(re.findall(r"\bem-[\w-]+", text))


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.stem)
def test_a_panel_styles_itself_alone(path):
    others = {each.stem for each in STYLES} - {path.stem}
    styled = loose(path.read_text("utf-8"))
    reached = {o: [sorted(names) for names in styled if names <= used(o)] for o in others}
    assert {other: names for other, names in reached.items() if names} == {}
