"""Commands that take what was found home: a report."""

from __future__ import annotations

from pathlib import Path

from earthmind_lab.errors import EarthMindError
from earthmind_lab.session.base import SessionBase


class KeepCommands(SessionBase):
    """Each writes a file and changes nothing."""

    def report(self, path: str | Path, name: str | None = None) -> Path:
        """The talk about a subject as one HTML file that opens anywhere, offline.

        Pictures are in it where the chip is loaded; `choose` its pair again after a restart.

        Args:
            path: File to write.
            name: The subject; None = the active one.

        Returns:
            The path.

        Raises:
            EarthMindError: Nothing was answered yet, or the file can't be written.
        """
        from earthmind_lab.report import write_report

        subject = self.subject(name)
        turns = [turn.to_dict() for turn in subject.talk if turn.state == "done"]
        if not turns:
            raise EarthMindError(
                f"Nothing was answered about {subject.name!r} yet.", change="ask something first"
            )
        return write_report(path, turns, chip=self.chip(subject.name), title=subject.name)
