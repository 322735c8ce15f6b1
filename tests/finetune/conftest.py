"""A random model of all parts that learns in milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.finetune import toys

    return toys.model(tmp_path_factory.mktemp("models") / "toy")
