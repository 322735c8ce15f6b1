"""What engines have in common, wherever their model is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from earthmind_lab.engine.asks import Ask
from earthmind_lab.engine.base import Capabilities
from earthmind_lab.exchange import Options, Prompt, Reply


class CommonEngine(ABC):
    """The part of an `Engine` that follows from `submit` and from what the model is."""

    _capabilities: Capabilities

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
