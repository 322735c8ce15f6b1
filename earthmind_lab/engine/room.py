"""How much memory a device has and how much of it is free; torch is asked about GPUs only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Room:
    """The memory of one device."""

    device: str
    """As torch calls it: ``cpu``, ``cuda:0``."""
    name: str = ""
    """What it is; empty for main memory."""
    free: int | None = None
    """Bytes that this process can still take; None = nobody can tell."""
    total: int | None = None
    """Bytes in all; of main memory what this process may use of it."""

    def __str__(self) -> str:
        """For example ``21.3 of 25.4 GB free``."""
        if self.free is None:
            return "free memory not known"
        total = self.total or self.free
        free = f"{self.free / 1e9:.1f}" if total >= 1e8 else short(self.free)
        return f"{free} of {short(total)} free"


def short(nbytes: int) -> str:
    """A number of bytes for people.

    >>> short(7_883_627_108), short(22_702_884), short(24_000_000_000)
    ('7.9 GB', '23 MB', '24.0 GB')
    """
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.0f} MB"


def room_of(device: str) -> Room:
    """The memory of a torch device; unknown for a kind that is neither ``cpu`` nor ``cuda``."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return main_memory()
    if kind != "cuda":
        return unknown_room(device)
    from earthmind_lab.model.opening import cuda_memory

    name, free, total = cuda_memory(device)
    return Room(device=device, name=name, free=free, total=total)


def unknown_room(device: str) -> Room:
    """A device that nobody looked at."""
    return Room(device=device)


def main_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Room:
    """Main memory that this process can take, under the limits of its container.

    What the kernel would drop for somebody who needs the room (file pages not used lately) counts
    as free, in the machine and in the container.

    Args:
        proc: Where Linux tells about processes.
        cgroups: Where it tells about control groups, of version 2, version 1 or both.
    """
    free, total = _machine(proc)
    for limit, taken in _limits(proc, cgroups):
        total = limit if total is None else min(total, limit)
        left = max(0, limit - taken)
        free = left if free is None else min(free, left)
    return Room(device="cpu", free=free, total=total)


def _machine(proc: Path) -> tuple[int | None, int | None]:
    """(available, all) of the machine."""
    table = _table(proc / "meminfo")
    if "MemAvailable" in table:
        return 1024 * table["MemAvailable"], 1024 * table.get("MemTotal", table["MemAvailable"])
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # a system without it
        return None, None
    return total, total


def _limits(proc: Path, cgroups: Path) -> list[tuple[int, int]]:
    """(most, taken) of every group with a limit that this process is in."""
    found = []
    for folder, top, names in _groups(proc, cgroups):
        # A container sees its own group at the top, whatever the path says outside.
        inside = [folder, *folder.parents] if folder.is_dir() else [top]
        for group in inside:
            if not group.is_relative_to(top):
                break
            limit, taken = _number(group / names[0]), _number(group / names[1])
            if limit is not None and taken is not None:
                idle = _table(group / "memory.stat").get(names[2], 0)
                found.append((limit, max(0, taken - idle)))
    return found


_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _groups(proc: Path, cgroups: Path) -> list[tuple[Path, Path, tuple[str, str, str]]]:
    """(folder, top folder, names of its files) of this process's memory groups."""
    groups = []
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        inside = path.strip("/")
        if number == "0" and not kinds:
            top = cgroups / "unified" if (cgroups / "unified").is_dir() else cgroups
            groups.append((top / inside, top, _V2))
        elif "memory" in kinds.split(","):
            groups.append((cgroups / "memory" / inside, cgroups / "memory", _V1))
    return groups


def _table(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    table = {}
    for line in _text(file).splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[1].isdigit():
            table[words[0]] = int(words[1])
    return table


def _number(file: Path) -> int | None:
    """The number in a file; None for ``max`` and where there is none."""
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
