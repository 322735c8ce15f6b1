"""A kernel that forgets requests is reminded of them.

JupyterLab sends a widget's messages beside those of cells. ipykernel 7.0 to 7.3 may then overlook a
request that arrives while it sends a reply: the cell or the click waits for ever, the kernel is
idle (ipykernel issue 1554, mended in 7.4 by pull request 1529). Looking into the socket again finds
it.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from earthmind_lab.progress import ipython

MENDED = (7, 4)
"""First version of ipykernel that overlooks nothing."""
LOOK_MS = 100
"""Between two looks: what a click may take unnoticed, and nothing to a processor."""


@cache
def remind_kernel() -> None:
    """Let the kernel look for overlooked requests from now on; nothing where none is needed."""
    kernel: Any = getattr(ipython(), "kernel", None)
    thread: Any = getattr(kernel, "shell_channel_thread", None)
    if thread is None or sys.modules["ipykernel"].version_info[:2] >= MENDED:
        return
    import zmq
    from tornado.ioloop import PeriodicCallback

    # On the loop of the thread that owns the socket: no other may touch it.
    look = PeriodicCallback(lambda: kernel.shell_stream.flush(zmq.POLLIN), LOOK_MS)
    thread.io_loop.add_callback(look.start)
