"""The process of a shared server: `engine.starting` starts it, nobody else."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from earthmind_lab.engine import wire
from earthmind_lab.engine.base import Engine
from earthmind_lab.engine.runtime import Place
from earthmind_lab.errors import EarthMindError, EngineUnavailable
from earthmind_lab.server.run import serve


def main() -> None:
    """Serve what the place's job says, until it is stopped or idle.

    The command line holds the folder of the place and the number of its open lock.
    """
    place, lock = Place(Path(sys.argv[1])), int(sys.argv[2])
    os.set_inheritable(lock, False)
    faulthandler.enable()
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(format=form, level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("earthmind_lab").setLevel(logging.INFO)
    job = place.noted("job") or {}
    os.environ["EARTHMIND_HOME"] = str(job["home"])  # the working folder is another one here
    place.note("server", {"pid": os.getpid(), "model": Path(job["model"]).name})
    try:
        serve(
            model=partial(_load, job),
            uds=place.socket,
            token=place.secret(),
            idle_seconds=job["idle_seconds"],
            ends="earthmind serve --stop ends it",
            beat=lambda active: place.beat(active=active),
        )
    except Exception as error:
        logging.getLogger(__name__).exception("The shared server ends.")
        place.note("failed", wire.error_to_dict(_told(error)))
        sys.exit(2)
    finally:
        place.forget("server")


def _load(job: Mapping[str, Any]) -> Engine:
    from earthmind_lab.engine.loading import load_engine

    return load_engine(job["model"], revision=job["revision"], **job["options"])


def _told(error: Exception) -> EarthMindError:
    """The error as whoever waits for the server is told it."""
    if isinstance(error, EarthMindError):
        return error
    return EngineUnavailable(
        "The shared server did not start.", found=f"{type(error).__name__}: {error}"
    )
