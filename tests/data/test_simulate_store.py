"""Folders of simulated scenes: whole files only, and a stopped run goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earthmind_lab.data import simulate_store
from earthmind_lab.data.simulate import simulate_scene
from earthmind_lab.data.simulate_store import open_simulated, simulate_many
from earthmind_lab.errors import AssetUnavailable, LoadError

KIND: dict[str, Any] = {"size": 48, "gsd": 20.0}


def test_what_is_read_is_what_was_drawn(tmp_path: Path) -> None:
    folder = simulate_many([3, 1, 2], tmp_path / "a", cloudy=True, **KIND)
    assert folder.seeds == (1, 2, 3) and len(folder) == 3
    for index, seed in enumerate(folder.seeds):
        scene, read = simulate_scene(seed, cloudy=True, **KIND), folder[index]
        assert np.abs(read.optical - scene.optical).max() <= 0.51e-4
        assert np.abs(read.sar - scene.sar).max() <= 0.0051
        assert np.abs(read.cloud - scene.cloud).max() <= 0.002
        np.testing.assert_array_equal(read.truth.classes, scene.truth.classes)
        np.testing.assert_array_equal(read.truth.things, scene.truth.things)
        assert read.truth.listed == scene.truth.listed
        for name in ("seed", "gsd", "biome", "level", "sun", "radar", "wind", "bands", "simulated"):
            assert getattr(read, name) == getattr(scene, name), name


def test_a_second_call_draws_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_many(range(3), tmp_path, **KIND)
    drawn: list[int] = []
    real = simulate_store.simulate_scene
    monkeypatch.setattr(
        simulate_store,
        "simulate_scene",
        lambda seed, **kind: drawn.append(seed) or real(seed, **kind),
    )
    folder = simulate_many(range(5), tmp_path, **KIND)
    assert drawn == [3, 4] and len(folder) == 5
    assert open_simulated(tmp_path).seeds == (0, 1, 2, 3, 4)


def test_other_scenes_do_not_mix(tmp_path: Path) -> None:
    simulate_many([1], tmp_path, **KIND)
    with pytest.raises(LoadError, match="another kind"):
        simulate_many([2], tmp_path, size=64, gsd=20.0)
    with pytest.raises(LoadError, match="another kind"):
        simulate_many([2], tmp_path, cloudy=True, **KIND)


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_many([0], tmp_path, **KIND)

    def full(stream: Any, **arrays: Any) -> None:
        stream.write(b"PK half a file")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(simulate_store.np, "savez", full)
        with pytest.raises(LoadError, match="No space left"):
            simulate_many(range(3), tmp_path, **KIND)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "scene_00000000.npz",
        "settings.json",
    ]
    assert len(simulate_many(range(3), tmp_path, **KIND)) == 3


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    folder = simulate_many([0, 1], tmp_path, **KIND)
    file = tmp_path / "scene_00000001.npz"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(AssetUnavailable, match="scene_00000001"):
        folder[1]
    with pytest.raises(AssetUnavailable, match="holds no simulated"):
        open_simulated(tmp_path / "elsewhere")


KILLED = """
import sys
from earthmind_lab.data.simulate_store import simulate_many
if __name__ == "__main__":
    simulate_many(range(400), sys.argv[1], workers=int(sys.argv[2]), size=48, gsd=20.0)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_goes_on_after_it_was_killed(tmp_path: Path, workers: int) -> None:
    script, folder = tmp_path / "draw.py", tmp_path / "scenes"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(workers)], env=environment,
        start_new_session=True,
    )  # fmt: skip
    limit = time.monotonic() + 120
    while len(list(folder.glob("scene_*.npz"))) < 4 and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # its own group: the workers, too
    process.wait(30)
    kept = open_simulated(folder)
    assert 4 <= len(kept) < 400
    for index in range(len(kept)):
        assert kept[index].simulated
    seeds = range(len(kept) + 3)
    again = simulate_many(seeds, folder, workers=workers, **KIND)
    assert again.seeds == tuple(seeds)
    for seed in (0, 3, len(kept) + 2):
        np.testing.assert_array_equal(
            again[seed].truth.classes, simulate_scene(seed, **KIND).truth.classes
        )
