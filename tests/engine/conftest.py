from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random EarthMind on disk."""
    from tests.engine import tiny

    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def run():
    """Makes engines over stand-ins; in the end each answer was released once, and all is freed."""
    from earthmind_lab.engine import ResidentEngine

    engines = []

    def make(backend, **settings):
        settings = {"flush_seconds": 0.0, "queue_limit": 10_000, **settings}
        engines.append(ResidentEngine(backend, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
        backend = engine._backend
        assert (len(backend.alive), backend.twice) == (0, 0), "released exactly once"
        assert not engine._worker._keeper.is_alive()
        assert engine._backend.closed
