"""The ways in which one model answers: as it was loaded, and with each adapter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from earthmind_lab.engine.cache import ByteCache
from earthmind_lab.engine.readings import Readings
from earthmind_lab.engine.slots import Slots
from earthmind_lab.engine.switch import Switch, Tuned
from earthmind_lab.errors import ModelNotFound
from earthmind_lab.exchange import Options


@dataclass(frozen=True, kw_only=True, eq=False)
class Voice:
    """One of them, with the rows of its answers: those of one voice are read together."""

    tuned: Tuned | None
    slots: Slots
    readings: Readings
    tokens: str = ""
    """What its visual tokens are kept under: "" = together with those of the model."""
    features: str = ""
    """The same of its mask features."""


class Voices:
    """All of them.

    Args:
        model: As it was loaded.
        cache: Where readings are kept.

    Attributes:
        base: The model as it was loaded.
    """

    def __init__(self, model: Any, cache: ByteCache) -> None:
        self._model, self._cache = model, cache
        self._switch = Switch(model)
        slots = Slots(model.language)
        self.base = Voice(tuned=None, slots=slots, readings=Readings(cache, slots))
        self._tuned: dict[str, Voice] = {}

    def of(self, options: Options) -> Voice:
        """Who answers an ask.

        Raises:
            ModelNotFound: The adapter was dropped.
        """
        if not options.adapter:
            return self.base
        voice = self._tuned.get(options.adapter)
        if voice is None:
            raise ModelNotFound(
                "The adapter was dropped before the answer began.",
                found=options.adapter[:12],
                change="another adapter, or load_adapter() once more",
            )
        return voice

    def speak(self, voice: Voice) -> None:
        """From now on the model answers so."""
        self._switch.to(voice.tuned)

    def add(self, tuned: Tuned) -> None:
        """One more; the model speaks as it was loaded."""
        slots = Slots(self._model.language)
        voice = Voice(
            tuned=tuned,
            slots=slots,
            readings=Readings(self._cache, slots, tuned.hash if tuned.reads() else ""),
            tokens=tuned.hash if tuned.looks() else "",
            features=tuned.hash if tuned.prepares() else "",
        )
        self._hold([*self._tuned.values(), voice])
        self._tuned = {**self._tuned, tuned.hash: voice}

    def remove(self, digest: str) -> Tuned | None:
        """One less, and nothing that was kept of it stays; the model speaks as it was loaded."""
        voice = self._tuned.get(digest)
        if voice is None:
            return None
        self._tuned = {key: each for key, each in self._tuned.items() if key != digest}
        self._hold(self._tuned.values())
        voice.slots.clear()
        if voice.readings.scope:
            voice.readings.drop()
        for kind, scope in (("tokens", voice.tokens), ("sam", voice.features)):
            for key, _ in self._cache.items(kind) if scope else ():
                if isinstance(key, tuple) and key[-1] == scope:
                    self._cache.drop(kind, key)
        return voice.tuned

    def clear(self) -> None:
        """End all rows, in whatever state a call that never returned has left them."""
        for voice in (self.base, *self._tuned.values()):
            voice.slots.clear()

    def rest(self) -> None:
        """The model is as it was loaded, for good."""
        self._tuned = {}
        self._hold(())

    def beside(self, voice: Voice) -> tuple[int, int]:
        """Answers under way in all voices, and bytes of the rows of the others."""
        slots = [each.slots for each in (self.base, *self._tuned.values())]
        rows = sum(len(each.rows) for each in slots)
        return rows, sum(each.nbytes for each in slots if each is not voice.slots)

    def _hold(self, voices: Iterable[Voice]) -> None:
        self._switch.hold(each.tuned for each in voices if each.tuned is not None)
