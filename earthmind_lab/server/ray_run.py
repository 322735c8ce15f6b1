"""The app over several replicas, until it is stopped: ``earthmind serve --replicas N``.

Imports Ray (`ray_app`) only when called, and only after its environment is set.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EngineUnavailable
from earthmind_lab.server import run

OBJECT_STORE = 256 << 20
"""Bytes of shared memory for prompts and masks on their way; what is more goes to disk."""


def serve(
    *, replicas: tuple[int, int], gpus: float | None = None, address: str | None = None,
    model: str = run.NANO, **where: Any,
) -> None:  # fmt: skip
    """Start replicas of a model and serve them as one; returns after Ctrl-C.

    Args:
        replicas: Fewest and most; between them as many as there is to do.
        gpus: Of each replica, a part of one allowed; default: 1 where there are GPUs, else 0.
        address: Of a Ray cluster to use, ``auto`` or ``host:port``; default: one of its own on
            this machine, which ends with it.
        model: Name or folder of the model; each machine must find it there.
        where: Of `run.serve`: host, port, token and so on.

    Raises:
        EarthMindError: As `run.serve`; or Ray isn't installed, or the replicas can't be had.
    """
    if not all(map(find_spec, ("ray", "grpc", "grpc_reflection"))):
        raise EngineUnavailable(
            "Several replicas need Ray, which is not installed.",
            change="pip install 'earthmind_lab[model,ray,serve]'",
        )
    with suppress(KeyboardInterrupt), ExitStack() as until_the_end:
        own = {} if address is not None else until_the_end.enter_context(_alone())
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from earthmind_lab.server import ray_app  # now: it reads the environment when imported

        until_the_end.enter_context(ray_app.joined(address, cpus=replicas[1], own=own))
        share = ray_app.share_of_gpus(gpus, replicas[0], own=address is None)
        start = ray_app.Start(model, replicas, share)
        try:
            run.serve(model=start, stop=start.stop, **where)
        finally:
            start.stop()
            if address is not None:  # others use that cluster, too
                start.remove()


@contextmanager
def _alone() -> Iterator[dict[str, Any]]:
    """Options of a Ray that nobody else can talk to; its files go with it."""
    folder = tempfile.mkdtemp(prefix="em-ray-")  # short: the paths of its sockets have a limit
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_urlsafe(32)}
    before = {name: os.environ.get(name) for name in token}
    os.environ.update(token)
    try:
        yield {
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
            # Ray opens its folder to everybody; the one around it stays this user's alone.
            "_temp_dir": str(Path(folder) / "r"),
        }
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
