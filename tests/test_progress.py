"""Bars where somebody looks, and nowhere else."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from earthmind_lab import progress


def seen(capfd):
    with progress.bar(2, unit="band", desc="loading") as shown:
        shown.update()
        shown.refresh()
    return "loading" in capfd.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_it_and_a_log_does_not(terminal, monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    assert seen(capfd) == terminal


def test_a_cell_sees_it_and_a_thread_of_a_widget_does_not(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    kernel = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert progress.looked_at()
    with ThreadPoolExecutor(1) as lane:
        assert not lane.submit(progress.looked_at).result()
    kernel.config = {}
    assert not progress.looked_at()
