"""The command behind `earthmind lab`; that it serves is tested in tests/browser."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from earthmind_lab import lab
from earthmind_lab.errors import EarthMindError

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def test_a_clone_opens_its_own_notebook() -> None:
    assert lab.notebook_in() == NOTEBOOKS / "map_chat.ipynb"


def test_a_folder_without_the_notebook_gets_a_copy(tmp_path: Path) -> None:
    found = lab.notebook_in(tmp_path / "new")
    assert found.read_bytes() == (NOTEBOOKS / "map_chat.ipynb").read_bytes()


def test_a_notebook_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "map_chat.ipynb"
    mine.write_text("{}")
    assert lab.notebook_in(tmp_path).read_text() == "{}"


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EarthMindError, match="--folder"):
        lab.notebook_in(tmp_path / "file" / "inside")


@pytest.mark.parametrize(
    ("env", "browser", "opens"),
    [({"DISPLAY": ":0"}, True, True), ({"DISPLAY": ":0"}, False, False), ({}, True, False)],
)
def test_a_browser_opens_only_where_there_is_a_display(
    env: dict[str, str], browser: bool, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    command = lab.lab_command(Path("a/x.ipynb"), root=Path("a"), port=1, browser=browser, env=env)
    assert ("--no-browser" in command) is not opens


def test_the_server_stays_on_loopback_and_keeps_its_token() -> None:
    command = lab.lab_command(Path("a/x.ipynb"), root=Path("a"), port=1, browser=False, env={})
    assert "--ServerApp.ip=127.0.0.1" in command
    assert not any("token" in word or "password" in word for word in command)


def test_the_notebook_is_opened_where_it_lies_below_the_root() -> None:
    notebook = lab.notebook_in()
    command = lab.lab_command(notebook, root=NOTEBOOKS.parent, port=1, browser=False, env={})
    assert "--LabApp.default_url=/lab/tree/notebooks/map_chat.ipynb" in command
    assert f"--ServerApp.root_dir={NOTEBOOKS.parent}" in command


def test_jupyterlab_is_told_not_to_fetch_news() -> None:
    command = lab.lab_command(Path("a/x.ipynb"), root=Path("a"), port=1, browser=False, env={})
    (folder,) = (word.partition("=")[2] for word in command if "app_settings_dir" in word)
    said = json.loads((Path(folder) / "overrides.json").read_text())
    assert said["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_without_jupyterlab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "find_spec", lambda _: None)
    with pytest.raises(EarthMindError, match=r"earthmind_lab\[lab,model\]"):
        lab.open_lab()
