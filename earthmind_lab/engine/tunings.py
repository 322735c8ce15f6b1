"""The adapters of a resident engine by name: loaded and dropped between two steps of answers.

An adapter is read and checked by whoever loads it; the thread that owns the model only takes it
over. Its bytes are taken from those for asks, so that it fits or is refused before it is there.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from earthmind_lab.engine.base import AdapterFiles
from earthmind_lab.engine.common import find
from earthmind_lab.engine.line import Line
from earthmind_lab.errors import EngineBusy, EngineError, OutOfDeviceMemory
from earthmind_lab.exchange import Options, Tuning

_NAME = re.compile(r"[\w][\w.+-]{0,99}")


class Tunings:
    """All of them; any thread may call.

    Args:
        backend: The model; takes adapters where it is `Tunable`.
        line: Whose thread owns it.

    Attributes:
        held: What asks may choose, by name; replaced, never changed.
    """

    def __init__(self, backend: Any, line: Line) -> None:
        self._backend, self._line = backend, line
        self.held: Mapping[str, Tuning] = {}
        self._lock = threading.Lock()  # one comes or goes at a time

    def resolved(self, options: Options) -> tuple[Options, Tuning | None]:
        """Options as a backend reads them: the adapter as its hash, what it was trained for.

        Raises:
            ModelNotFound: There is no such adapter.
        """
        if not options.adapter:
            return (options if options.adapter is None else replace(options, adapter=None)), None
        tuning = find(self.held, options.adapter)
        return (
            replace(
                options,
                adapter=tuning.hash,
                fusion=options.fusion or tuning.fusion,
                mask_source=options.mask_source or tuning.mask_source,
            ),
            tuning,
        )

    def load(self, path: Path, name: str | None) -> str:
        """See `ResidentEngine.load_adapter`."""
        self._line.check_open()
        if not hasattr(self._backend, "adopt"):
            raise EngineError(
                f"{self._backend.capabilities.name} takes no adapters.",
                change="an EarthMind model, or a merged model",
            )
        with self._lock:
            files: AdapterFiles = self._backend.read_adapter(path)
            name = _checked(files.name if name is None else name)
            for known in self.held.values():
                if known.hash == files.hash and (name in (known.name, files.name)):
                    return known.name
                if known.hash == files.hash or known.name == name:
                    raise EngineError(
                        f"The adapter {path} can't be loaded as {name!r}.",
                        found=f"an adapter {known.name!r} with the weights {known.hash[:12]}",
                        change="drop_adapter() of that one first"
                        + ("" if known.hash == files.hash else ", or another name="),
                    )
            tuning = files.tuning(name)
            self._line.jobs.call(lambda: self._take_over(files, tuning))
            return name

    def drop(self, name: str) -> None:
        """See `ResidentEngine.drop_adapter`."""
        with self._lock:
            tuning = find(self.held, name)
            self._line.jobs.call(lambda: self._let_go(tuning))

    # --- on the thread that owns the model: whoever called may be gone by now ---------------------

    def _take_over(self, files: AdapterFiles, tuning: Tuning) -> None:
        """Put an adapter on the device.

        Raises:
            OutOfDeviceMemory: There is no room.
        """
        if not self._line.resize(-files.nbytes):
            raise OutOfDeviceMemory(
                "There is no room for the adapter beside the asks under way.",
                found=f"{files.nbytes >> 20} MiB needed",
                change="once more when they have ended, or drop another adapter",
            )
        try:
            self._backend.adopt(files)
        except BaseException:
            self._line.resize(files.nbytes)
            raise
        self.held = {**self.held, tuning.name: tuning}

    def _let_go(self, tuning: Tuning) -> None:
        """Free an adapter.

        Raises:
            EngineBusy: It is in use.
        """
        before = self.held
        # First, so that no more asks for it come.
        self.held = {name: each for name, each in before.items() if name != tuning.name}
        if count := self._line.using(tuning.hash):
            self.held = before
            raise EngineBusy(
                f"The adapter {tuning.name!r} is in use.",
                found=f"{count} asks with it under way or waiting",
                change="wait for them, or cancel them",
            )
        room = self._backend.capacity()
        self._backend.forget(tuning.hash)
        self._line.resize(self._backend.capacity() - room)


def _checked(name: str) -> str:
    """A name that an address and a chat's model may hold.

    Raises:
        EngineError: It is another.
    """
    if not _NAME.fullmatch(name):
        raise EngineError(
            "That is no name for an adapter.",
            found=repr(name[:100]),
            change="name= of letters, digits and . _ + -",
        )
    return name
