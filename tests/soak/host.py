"""The server of the soak: the real app over nano in a process of its own, told what to suffer.

Commands come on stdin, one a line, and each is answered by one line of JSON on stdout:

    kill          the worker dies where it stands
    cache BYTES   from now on the engine keeps so much
    memory        what the process holds once it has given back what it can
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
from pathlib import Path
from typing import Any

from earthmind_lab.engine import ResidentEngine, load_engine
from earthmind_lab.server.serving import Limits
from tests.server.served import served


def kill(engine: ResidentEngine) -> bool:
    """End the worker's thread at its next instruction; whether there was one."""
    worker = engine._worker._worker
    if worker is None or worker.ident is None:
        return False
    killed = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit)
    )
    return killed == 1


def memory(engine: ResidentEngine) -> dict[str, int]:
    """Bytes and counts of this process."""
    import torch

    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    device = 0
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        device = torch.cuda.memory_allocated()
    raw: Any = engine._backend
    return {
        "main": pages * 4096,
        "device": device,
        "kept": raw.cache.nbytes,
        "rows": len(raw._slots.rows),
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


def main() -> None:
    """Serve until stdin ends."""
    engine: Any = load_engine("nano")
    with served(engine, token=None, limits=Limits(body_bytes=4 << 20)) as found:
        print(json.dumps({"url": found.url}), flush=True)
        for line in sys.stdin:
            word, _, number = line.strip().partition(" ")
            said: Any = None
            if word == "kill":
                said = kill(engine)
            elif word == "cache":
                engine._backend.cache.limit = int(number)
            elif word == "memory":
                said = memory(engine)
            print(json.dumps(said), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
