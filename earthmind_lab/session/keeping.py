"""Commands that take what was found home: files, references, and whether it replays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.citing import Citation, cite
from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.exchange import Options
from earthmind_lab.feature_files import save_features
from earthmind_lab.record import Record
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.keeper import Change
from earthmind_lab.session.subject import SaidTurn, Subject
from earthmind_lab.session.tasks import Task
from earthmind_lab.whole_file import whole_file

if TYPE_CHECKING:
    from earthmind_lab.answer import Answer
    from earthmind_lab.engine.base import Engine

RASTER = ".tif"


class KeepCommands(SessionBase):
    """None changes the session. A file appears complete or not at all, and replaces its like."""

    def export(
        self, turn: str, path: str | Path, name: str | None = None, *, probability: bool = False
    ) -> Path:
        """The objects of an answer as a file.

        Args:
            turn: Id of the turn.
            path: Ends in .geojson, .gpkg or .parquet for features in lon/lat, which are there after
                a restart, too; or in .tif for a cloud-optimised GeoTIFF of classes and objects.
            name: The subject; None = the active one.
            probability: For .tif: the model's own probability of each class instead.

        Returns:
            The path.

        Raises:
            PromptError: No such answer, it is about a plain picture, or for .tif: it is about two
                dates, or its masks are no longer in memory.
            EarthMindError: Another ending, or the file can't be written.
        """
        said, path = self._placed(turn, name), Path(path)
        if path.suffix.lower() != RASTER:
            if probability:
                raise PromptError(
                    "Probabilities are a raster.", change=f"a name ending in {RASTER}"
                )
            return save_features(said.features, path)
        from earthmind_lab.cogs import write_mask, write_probability

        answer = self._in_memory(said)
        with whole_file(path) as draft:
            (write_probability if probability else write_mask)(answer, draft)
        return path

    def save_stac(self, turn: str, folder: str | Path, name: str | None = None) -> Path:
        """An answer as a STAC item with its assets.

        Args:
            turn: Id of the turn.
            folder: Where; made if missing, `stac_items.STAC_FILES` in it are replaced.
            name: The subject; None = the active one.

        Returns:
            The path of the item.

        Raises:
            PromptError: As `export` of a .tif.
            EarthMindError: The folder can't be written.
        """
        from earthmind_lab.stac_items import to_stac

        return to_stac(self._in_memory(self._placed(turn, name)), folder)

    def save_record(self, turn: str, path: str | Path, name: str | None = None) -> Path:
        """How an answer came about, as ``earthmind replay`` takes it.

        Args:
            turn: Id of the turn.
            path: File to write.
            name: The subject; None = the active one.

        Returns:
            The path.

        Raises:
            PromptError: No such answer.
            EarthMindError: The file can't be written.
        """
        return self._record(turn, name).save(path)

    def cite(self, turn: str, name: str | None = None) -> Citation:
        """What to write about an answer: methods, references, whose data it is.

        Args:
            turn: Id of the turn.
            name: The subject; None = the active one.

        Raises:
            PromptError: No such answer.
        """
        return cite(self._record(turn, name))

    def sample_points(
        self, turn: str, path: str | Path, n: int = 300, seed: int = 0, name: str | None = None
    ) -> Path:
        """Points to label, from which `estimate_area` makes an area of a mapped area.

        Args:
            turn: Id of the turn.
            path: Ends in .geojson, .gpkg or .parquet.
            n: Points in all.
            seed: The same seed draws the same points.
            name: The subject; None = the active one.

        Returns:
            The path.

        Raises:
            PromptError: As `export` of a .tif.
            EarthMindError: Too few points for the classes, another ending, or the file can't be
                written.
        """
        from earthmind_lab.sampling_points import sample_points, save_points

        answer = self._in_memory(self._placed(turn, name))
        return save_points(sample_points(answer, n, seed), path)

    def report(self, path: str | Path, name: str | None = None) -> Path:
        """The talk about a subject as one HTML file that opens anywhere, offline.

        An answer has pictures where the chips that it is about are loaded: after a restart, `load`
        them again, or `compare`.

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
        return write_report(path, turns, chips=self._shelf.chips(subject), title=subject.name)

    def notebook(self, path: str | Path, name: str | None = None) -> Path:
        """The talk about a subject as a notebook that asks it again.

        Args:
            path: File to write; ends in .ipynb.
            name: The subject; None = the active one.

        Returns:
            The path.

        Raises:
            PromptError: Nothing was answered yet, or it can't be asked again.
            EarthMindError: The file can't be written.
        """
        from earthmind_lab.as_notebook import save_notebook

        return save_notebook(self.subject(name), path)

    def replay(self, turn: str, name: str | None = None) -> Task:
        """Ask again what the record of an answer says, from the catalog on, and compare.

        Args:
            turn: Id of the turn.
            name: The subject; None = the active one.

        Returns:
            A task; its result is the `replay.Replay`: the same, or the first link that broke.

        Raises:
            PromptError: No such answer.
            EngineBusy: The subject is busy.
        """
        from earthmind_lab.replay import replay

        with self._keeper.lock:
            record, subject = self._record(turn, name), self.subject(name)

            def work(task: Task, _: Subject) -> tuple[Any, Change]:
                engine = _same_model(self.engine, record)
                return replay(record, engine=engine, on_stop=task.on_stop), lambda state: state

            return self._keeper.start("replay", subject.name, lambda state: state, work)

    def _said(self, turn: str, name: str | None) -> SaidTurn:
        subject = self.subject(name)
        said = subject.turn(turn)
        if said is None or said.state != "done" or said.record is None:
            raise PromptError(
                f"There is no answer {turn!r} about {subject.name!r}.",
                found="a turn without one" if said is not None else "no such turn",
                change="ask, and let it be answered",
            )
        return said

    def _record(self, turn: str, name: str | None) -> Record:
        said = self._said(turn, name)
        assert said.record is not None
        return Record.from_dict(dict(said.record), name=turn)

    def _placed(self, turn: str, name: str | None) -> SaidTurn:
        said = self._said(turn, name)
        if said.record is None or said.record.get("aoi") is None:
            raise PromptError(
                "A plain picture has no place on the Earth, so there is no feature to save.",
                change="save_record(), or ask about an area",
            )
        return said

    def _in_memory(self, said: SaidTurn) -> Answer:
        """The answer of a turn about one date, with masks that are cut where the turn's are."""
        from earthmind_lab.cogs import check_one_date

        check_one_date(Record.from_dict(dict(said.record or {}), name=said.id))
        answer = self._answers.find(said.id)
        if answer is None:
            raise PromptError(
                "The masks of this answer are no longer in memory.", change="ask the question again"
            )
        cut = said.options.get("mask_threshold", Options().mask_threshold)
        # An undone cut leaves the answer of that cut behind.
        return answer if answer.reply.threshold == cut else answer.at(cut)


def _same_model(engine: Engine | None, record: Record) -> Engine | None:
    """The session's engine where it is the one of the record; else the record names its own."""
    if engine is None or engine.capabilities.name != record.model.get("name"):
        return None
    return engine
