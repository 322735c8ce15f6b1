"""Plain pictures of a session: files by their path, arrays by their content."""

from __future__ import annotations

from pathlib import Path

from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import View

_IN_MEMORY = "memory:"


class Pictures:
    """Where pictures that came as arrays are found again.

    Args:
        path: The session's file, beside which they lie; None = memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._held: dict[str, View] = {}

    def keep(self, view: View) -> str:
        """Keep one; gives what `find` takes.

        Raises:
            PromptError: It can't be written.
        """
        key = view.hash[:20]
        if self._path is None:
            self._held[_IN_MEMORY + key] = view
            return _IN_MEMORY + key
        from PIL import Image

        path = self._path.with_suffix(".pictures") / f"{key}.png"
        if path.is_file():  # named by its content: the same picture, perhaps being read right now
            return str(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".part")
            Image.fromarray(view.image).save(draft, format="PNG")
            draft.replace(path)
        except OSError as error:
            raise PromptError("The picture can't be kept.", found=str(error)) from error
        return str(path)

    def find(self, where: str) -> View | Path:
        """The picture of a `Subject.picture`."""
        held = self._held.get(where)
        return Path(where) if held is None else held
