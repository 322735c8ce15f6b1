from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random EarthMind on disk."""
    from tests.engine import tiny

    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")
