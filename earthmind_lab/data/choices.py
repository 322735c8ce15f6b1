"""What the user decides in a search: scenes that are pinned, and scenes that are excluded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from earthmind_lab.errors import SearchError
from earthmind_lab.scene import Scene

IdsLike: TypeAlias = "str | Iterable[str] | None"
"""One id of a scene or item, several, or None."""
_NEAR = 3
"""Known ids that are named beside an unknown one."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Scenes by id; a mosaic goes by its own id and by those of its items.

    >>> Choice.of("S2A_1", None).overrides
    {'pin': ('S2A_1',)}
    """

    pin: tuple[str, ...] = ()
    """Only these come into question, whatever their cloud and gap."""
    exclude: tuple[str, ...] = ()
    """These don't."""

    @classmethod
    def of(cls, pin: IdsLike, exclude: IdsLike) -> Choice:
        """From what a user wrote.

        Raises:
            SearchError: Not ids, or one id is pinned and excluded.
        """
        choice = cls(pin=_ids("pin", pin), exclude=_ids("exclude", exclude))
        both = sorted(set(choice.pin) & set(choice.exclude))
        if both:
            raise SearchError(
                f"The scene {both[0]!r} is pinned and excluded.", change="one of the two"
            )
        return choice

    @property
    def overrides(self) -> dict[str, tuple[str, ...]]:
        """For records: what was decided, nothing else."""
        named = {"pin": self.pin, "exclude": self.exclude}
        return {name: ids for name, ids in named.items() if ids}

    def pins(self, scene: Scene) -> bool:
        """Whether a scene is pinned."""
        return bool(self.pin) and not names_of(scene).isdisjoint(self.pin)

    def excludes(self, scene: Scene) -> bool:
        """Whether a scene is excluded."""
        return bool(self.exclude) and not names_of(scene).isdisjoint(self.exclude)

    def check(self, scenes: Sequence[Scene], place: str) -> None:
        """Refuse ids that are not there: a slip of the pen would decide nothing silently.

        Args:
            scenes: Every candidate.
            place: Of the search, for the message.

        Raises:
            SearchError: One is unknown; the nearest are named.
        """
        known = {name for scene in scenes for name in names_of(scene)}
        for option, ids in self.overrides.items():
            for unknown in (name for name in ids if name not in known):
                near = difflib.get_close_matches(unknown, sorted(known), _NEAR, cutoff=0.5)
                raise SearchError(
                    f"No scene {unknown!r} to {option} among those found {place}.",
                    found=f"the nearest ids are {', '.join(near)}" if near else
                    f"{len(known)} scenes with other ids",
                    change=f"{option}={near[0]!r}" if near else "other dates, or another id",
                )  # fmt: skip


def names_of(scene: Scene) -> set[str]:
    """The id of a scene and of its items."""
    return {scene.id, *(str(item.get("id", scene.id)) for item in scene.items)}


def _ids(option: str, given: IdsLike) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else list(given or ())
    if not all(isinstance(name, str) and name for name in listed):
        raise SearchError(f"{option}={given!r} names no scene.", change=f"{option}='ID of a scene'")
    return tuple(dict.fromkeys(listed))
