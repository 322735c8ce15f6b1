"""Free memory: of the machine, and of the container that holds less of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from earthmind_lab.engine.room import Room, main_memory, room_of, short

GB = 10**9
MEMINFO = "MemTotal:       31250000 kB\nMemFree:         1000 kB\nMemAvailable:   19531250 kB\n"
"""32 GB, 20 of them available."""


def machine(folder: Path, groups: dict[str, str], *, cgroup: str, meminfo: str = MEMINFO) -> Room:
    """The memory of a machine whose files hold this."""
    files = {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup}
    files |= {f"cgroup/{name}": text for name, text in groups.items()}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "cgroup").mkdir(exist_ok=True)
    return main_memory(folder / "proc", folder / "cgroup")


def test_without_a_container_it_is_the_machine_s(tmp_path):
    room = machine(tmp_path, {}, cgroup="0::/\n")
    assert (room.free, room.total) == (20 * GB, 32 * GB)
    assert str(room) == "20.0 of 32.0 GB free"


def test_a_limit_of_version_2_and_what_the_kernel_would_drop(tmp_path):
    groups = {
        "memory.max": f"{8 * GB}\n",
        "memory.current": f"{5 * GB}\n",
        "memory.stat": f"anon {2 * GB}\ninactive_file {3 * GB}\nactive_file 7\n",
    }
    room = machine(tmp_path, groups, cgroup="0::/\n")
    assert (room.free, room.total) == (6 * GB, 8 * GB)


def test_no_limit_is_none(tmp_path):
    groups = {"memory.max": "max\n", "memory.current": f"{5 * GB}\n"}
    assert machine(tmp_path, groups, cgroup="0::/\n").free == 20 * GB


def test_the_tightest_group_on_the_way_up_counts(tmp_path):
    groups = {
        "user/memory.max": f"{6 * GB}",
        "user/memory.current": f"{5 * GB}",
        "user/job/memory.max": f"{9 * GB}",
        "user/job/memory.current": f"{1 * GB}",
    }
    room = machine(tmp_path, groups, cgroup="0::/user/job\n")
    assert (room.free, room.total) == (1 * GB, 6 * GB)


@pytest.mark.parametrize("where", ["memory/docker/abc/", "memory/"])
def test_a_limit_of_version_1_by_its_path_or_seen_from_inside(tmp_path, where):
    groups = {
        f"{where}memory.limit_in_bytes": f"{4 * GB}",
        f"{where}memory.usage_in_bytes": f"{3 * GB}",
        f"{where}memory.stat": f"total_inactive_file {1 * GB}\n",
    }
    cgroup = "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n"
    room = machine(tmp_path, groups, cgroup=cgroup)
    assert (room.free, room.total) == (2 * GB, 4 * GB)


def test_version_1_writes_no_limit_as_a_huge_one(tmp_path):
    groups = {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/memory.usage_in_bytes": f"{3 * GB}",
    }
    assert machine(tmp_path, groups, cgroup="4:memory:/\n").free == 20 * GB


def test_a_full_container_has_nothing_and_not_less(tmp_path):
    groups = {"memory.max": f"{1 * GB}", "memory.current": f"{2 * GB}"}
    assert machine(tmp_path, groups, cgroup="0::/\n").free == 0


def test_a_system_without_such_files_still_tells_its_memory(tmp_path):
    room = main_memory(tmp_path / "none", tmp_path / "none")
    assert room.free is None or room.free == room.total
    assert main_memory(tmp_path / "none", tmp_path / "none") == room


def test_this_machine():
    room = room_of("cpu")
    assert room.free is not None
    assert room.total is not None
    assert 0 < room.free <= room.total


def test_a_device_that_nobody_can_look_at():
    assert room_of("meta") == Room(device="meta")
    assert str(room_of("meta")) == "free memory not known"


def test_what_torch_keeps_for_itself_on_a_gpu_is_free(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1 * GB)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    assert room_of("cuda:0") == Room(device="cuda:0", name="Card", free=7 * GB, total=24 * GB)


def test_small_rooms_are_not_said_to_be_zero():
    assert str(Room(device="cpu", free=1_500_000, total=50_000_000)) == "2 MB of 50 MB free"
    assert str(Room(device="cpu", free=1_500_000, total=2 * GB)) == "0.0 of 2.0 GB free"
    assert short(99_000_000) == "99 MB"
