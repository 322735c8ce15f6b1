"""Every tutorial says what it is for, stands in the table, and needs nothing but the package.

That they run is `make notebooks`; their times are what it prints.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from earthmind_lab.data.known import KNOWN
from tests.test_repository import MACHINE

FOLDER = Path(__file__).parents[1] / "tutorials"
FILES = sorted(FOLDER.glob("*.ipynb"))
ABSOLUTE = re.compile(r"/\w|~|[A-Za-z]:[\\/]")
REMOTE = {known.name for known in KNOWN}
MOST_LINES = 15
"""Of code in a cell, blank ones apart."""


def cells(path: Path, kind: str = "code") -> list[str]:
    told = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in told if cell["cell_type"] == kind]


def head(path: Path) -> tuple[str, str, str, str]:
    """Number, title, what one will be able to do, and needs, of the first cell."""
    first = cells(path, "markdown")[0]
    lines = r"# (\d+)\. (.+)\n[^#]*^\*\*You will be able to\*\* (.+)\n\n\*\*Needs\*\* (.+)$"
    found = re.match(lines, first, flags=re.MULTILINE)
    assert found, f"{path.name} begins: # N. Title, then what one will be able to do, and needs"
    return found[1], found[2], found[3].rstrip("."), found[4].rstrip(".")


def row(path: Path) -> str:
    number, title, able, needs = head(path)
    return f"| [{number}. {title}]({path.name}) | {able} | {needs} |"


def strings(source: str) -> list[str]:
    """Whole texts of the code; parts of an f-string don't stand alone."""
    tree = ast.parse(source)
    parts = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
    }  # fmt: skip
    return [
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
    ]  # fmt: skip


def test_the_table_is_the_notebooks() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| [")]
    assert rows == [row(path) for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_tutorial_is_in_form(path: Path) -> None:
    assert path.name.startswith(f"{int(head(path)[0]):02}_")
    assert "## What to try next" in cells(path, "markdown")[-1]
    told = json.loads(path.read_text(encoding="utf-8"))
    for cell in told["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert cell["metadata"] == {}, "what a run leaves"
    assert set(told["metadata"]) == {"kernelspec", "language_info"}
    long = [code for code in cells(path) if len(re.findall(r"^.*\S", code, re.M)) > MOST_LINES]
    assert long == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_tutorial_needs_only_what_comes_with_the_package(path: Path) -> None:
    assert not MACHINE.search(path.read_text(encoding="utf-8"))
    for code in cells(path):
        texts = strings(code)
        assert not [text for text in texts if ABSOLUTE.match(text)], "only paths of its own folder"
        assert not [text for text in texts if re.match(r"(https?|s3|gs)://", text)]
        for node in ast.walk(ast.parse(code)):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if name == "load_engine":
                assert set(given) <= {"nano"}, "a model that would have to be fetched"
            for keyword in node.keywords:
                if keyword.arg == "catalog" and isinstance(keyword.value, ast.Constant):
                    assert keyword.value.value not in REMOTE, "a catalog on the network"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_of_a_tutorial_lead_somewhere(path: Path) -> None:
    texts = "\n".join(cells(path, "markdown"))
    linked = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", texts)]
    assert linked
    lost = [link for link in linked if not (FOLDER / link).resolve().exists()]
    assert lost == []
