"""What engines have in common, wherever their model is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from earthmind_lab.engine.asks import Ask
from earthmind_lab.engine.base import Capabilities
from earthmind_lab.errors import ModelNotFound
from earthmind_lab.exchange import Options, Prompt, Reply, Tuning


class CommonEngine(ABC):
    """The part of an `Engine` that follows from `submit` and from what the model is."""

    _capabilities: Capabilities
    _default: str | None = None

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._capabilities.name

    @property
    def revision(self) -> str:
        """First 12 hex digits of its weight hash."""
        return self._capabilities.revision

    @property
    def capabilities(self) -> Capabilities:
        """What the model is and what fits into it."""
        return self._capabilities

    @property
    @abstractmethod
    def adapters(self) -> Mapping[str, Tuning]:
        """The adapters that asks may choose, by name."""

    @property
    def default_adapter(self) -> str | None:
        """Name of the adapter that answers where an ask doesn't say; None = the model itself.

        Setting it to a name that is not in `adapters` raises `ModelNotFound`.
        """
        return self._default

    @default_adapter.setter
    def default_adapter(self, name: str | None) -> None:
        if name:
            find(self.adapters, name)
        self._default = name or None

    def _chosen(self, options: Options) -> Options:
        """Options that say which adapter answers."""
        if options.adapter is not None or self._default is None:
            return options
        return replace(options, adapter=self._default)

    @abstractmethod
    def submit(self, prompt: Prompt, options: Options | None = None) -> Ask:
        """Queue an ask and return at once."""

    def generate(self, prompt: Prompt, options: Options | None = None) -> Reply:
        """Ask and wait; an interrupt of the caller cancels the ask.

        Raises:
            EarthMindError: Why the ask failed.
        """
        ask = self.submit(prompt, options)
        try:
            return ask.result()
        except BaseException:  # KeyboardInterrupt above all; no effect when the ask failed
            ask.cancel()
            raise


def find(adapters: Mapping[str, Tuning], name: str) -> Tuning:
    """The adapter of a name, or of a hash.

    Raises:
        ModelNotFound: There is none.
    """
    found = adapters.get(name) or next((t for t in adapters.values() if t.hash == name), None)
    if found is None:
        raise ModelNotFound(
            f"There is no adapter {name[:100]!r} here.",
            found=", ".join(adapters) or "none is loaded",
            change="load_adapter() of its folder, where the engine runs",
        )
    return found
