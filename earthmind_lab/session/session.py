"""Session: the one object behind every face. What a click can do, Python does in one call.

    session = Session.open()                     # kept in a file, there again after a restart
    session.open_place("spain")                  # or session.draw((w, s, e, n))
    session.search().result()                    # ranked pairs
    session.choose(0).result()                   # loads the chip
    session.ask("Segment the water.").result()   # the answer; also a turn of the subject
    session.undo()                               # takes the last command back

Commands may come from any thread and return at once; what takes time is a `Task` on a thread of
its own, at most one per subject. The state is one immutable value behind one lock; the result of
a task that was stopped, or whose subject went away meanwhile, is dropped.
"""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.chip import Chip
from earthmind_lab.conversation import Conversation, RegionLike
from earthmind_lab.errors import AOIError, EarthMindError, PromptError
from earthmind_lab.exchange import Options, Token, Turn, View
from earthmind_lab.session import commands
from earthmind_lab.session.commands import Command, State
from earthmind_lab.session.keeper import Change, Keeper
from earthmind_lab.session.queries import check_rank, how_found, query_of
from earthmind_lab.session.shelf import Shelf, listed, turn_of
from earthmind_lab.session.subject import Note, Subject
from earthmind_lab.session.tasks import Task
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from earthmind_lab.data.search import CatalogLike, DatesLike
    from earthmind_lab.engine.base import Engine

DEFAULT = Options()
_IN_MEMORY = "memory:"
_OPEN: weakref.WeakValueDictionary[Path, Session] = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


class Session:
    """Named subjects with their searches, chips and talks, and a log with undo.

    Args:
        engine: Who answers; default: the embedded model, loaded with the first question.
        path: The file that keeps it; None = memory only.
        settings: Where the catalog's default comes from; by default the environment.

    Raises:
        EarthMindError: Another process has the file open, or it can't be used.
    """

    def __init__(
        self,
        *,
        engine: Engine | None = None,
        path: Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.engine = engine
        """Who answers; None until the first question where none was given."""
        self._settings, self._path = settings or Settings.from_env(), path
        self._shelf, self._keeper = Shelf(), Keeper(path)
        self._pictures: dict[str, View] = {}
        self._seat = uuid.uuid4().hex

    @classmethod
    def open(
        cls,
        name: str = "default",
        *,
        engine: Engine | None = None,
        settings: Settings | None = None,
    ) -> Session:
        """The session of this name, with everything that is there.

        In the process that has it open already this is the same session: a cell may run twice.

        Args:
            name: Of the file in the settings' folder ``sessions``.
            engine: Who answers; default: the embedded model.
            settings: Where the folder is; by default the environment.

        Raises:
            EarthMindError: Another process has it open, or the name is no file name.
        """
        if not name.strip() or name.startswith(".") or {"/", "\\", "\0"} & set(name):
            raise EarthMindError(f"{name!r} is no name for a session.", change="a plain word")
        settings = settings or Settings.from_env()
        path = (settings.home / "sessions" / f"{name}.json").absolute()
        with _OPENING:
            held = _OPEN.get(path)
            if held is not None and not held.closed:
                held.engine = engine or held.engine
                return held
            session = cls(engine=engine, path=path, settings=settings)
            _OPEN[path] = session
            return session

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    # --- what is there ---------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[str, ...]:
        """What the user should hear about the opening: a damaged file, tasks cut off."""
        return self._keeper.messages

    @property
    def closed(self) -> bool:
        """Whether `close` was called: then every command is refused."""
        return self._keeper.closed

    @property
    def subjects(self) -> Mapping[str, Subject]:
        """By name, in the order in which they came; a snapshot."""
        with self._keeper.lock:
            return MappingProxyType(
                {name: self._seen(subject) for name, subject in self._keeper.state.subjects.items()}
            )

    @property
    def active(self) -> str | None:
        """The subject that commands without a name are about."""
        return self._keeper.state.active

    @property
    def log(self) -> tuple[Command, ...]:
        """What was done, oldest first; what was undone, or came to nothing, is not in it."""
        return self._keeper.state.log

    def subject(self, name: str | None = None) -> Subject:
        """One subject as it is now.

        Args:
            name: None = the active one.

        Raises:
            AOIError: There is none.
        """
        with self._keeper.lock:
            name = self._keeper.state.active if name is None else name
            if name is None:
                raise AOIError(
                    "There is no area yet.",
                    change="draw one, open_place('spain'), or open_picture('picture.png')",
                )
            if name not in self._keeper.state.subjects:
                held = ", ".join(map(repr, self._keeper.state.subjects)) or "nothing"
                raise AOIError(f"There is no {name!r} in this session.", found=held)
            return self._seen(self._keeper.state.subjects[name])

    def chip(self, name: str | None = None) -> Chip | None:
        """The loaded chip of the chosen pair; None until `choose` or `ask` loaded it."""
        return self._shelf.chip(self.subject(name))

    # --- commands at once ------------------------------------------------------------------------

    def draw(self, geometry: AOILike, name: str | None = None) -> str:
        """A new AOI, which becomes the active subject.

        Args:
            geometry: In any form `AOI.from_any` takes.
            name: How to call it; default ``area 1``, ``area 2``, ...

        Returns:
            Its name.

        Raises:
            AOIError: The area can't be used, or the name is taken.
        """
        aoi = AOI.from_any(geometry)
        with self._keeper.lock:
            name = self._free("area") if name is None else name
            subject = Subject(name=name, kind="aoi", aoi=replace(aoi, name=name))
            self._keeper.commit(commands.add(self._keeper.state, subject))
        return name

    def edit(self, name: str, geometry: AOILike) -> None:
        """Another geometry for an AOI; its search, pair and turns go (undo brings them back).

        Raises:
            AOIError: No such AOI, or the area can't be used.
        """
        aoi = replace(AOI.from_any(geometry), name=name)
        with self._keeper.lock:
            if self.subject(name).kind == "aoi":
                self._keeper.stop(name, f"{name!r} was edited before the answer was complete.")
            self._keeper.commit(commands.edit(self._keeper.state, name, aoi))

    def delete(self, name: str) -> None:
        """Take a subject away; undo brings everything back.

        Raises:
            AOIError: There is none of this name.
        """
        with self._keeper.lock:
            self.subject(name)
            self._keeper.stop(name, f"{name!r} was deleted before the answer was complete.")
            self._keeper.commit(commands.delete(self._keeper.state, name))

    def select(self, name: str) -> None:
        """Make a subject the active one.

        Raises:
            AOIError: There is none of this name.
        """
        with self._keeper.lock:
            self.subject(name)
            self._keeper.commit(commands.select(self._keeper.state, name))

    def open_place(self, place: str) -> str:
        """The AOI of a sample place, or the subject that came from it.

        Raises:
            SearchError: There is no such place.
        """
        from earthmind_lab.data import samples

        found = samples.place(place)
        with self._keeper.lock:
            for subject in self._keeper.state.subjects.values():
                if subject.place == found.name:
                    self.select(subject.name)
                    return subject.name
            name = self._free(found.name, bare=True)
            aoi = AOI.from_bbox(*found.bbox, name=name)
            subject = Subject(name=name, kind="aoi", aoi=aoi, place=found.name)
            self._keeper.commit(commands.add(self._keeper.state, subject, "open"))
        return name

    def open_picture(self, picture: str | Path | NDArray[np.uint8], name: str | None = None) -> str:
        """A plain picture: text and pixels, no areas.

        Args:
            picture: A file, or uint8 (H, W, 3).
            name: How to call it; default: the file's, or ``picture 1``.

        Returns:
            Its name.

        Raises:
            PromptError: It can't be read as a picture.
            AOIError: The name is taken.
        """
        from earthmind_lab.render import picture_view

        view = picture_view(picture)
        is_file = isinstance(picture, str | Path)
        where = str(Path(picture).resolve()) if is_file else self._keep(view)  # type: ignore[arg-type]
        with self._keeper.lock:
            if name is None:
                stem = Path(where).stem[:60] if is_file else ""
                name = self._free(stem, bare=True) if stem else self._free("picture")
            subject = Subject(name=name, kind="picture", picture=where)
            self._keeper.commit(commands.add(self._keeper.state, subject, "open"))
        return name

    def undo(self) -> Command | None:
        """Take the last command back; where its task still runs, that is stopped.

        Returns:
            The command that is undone; None where there is none.
        """
        return self._keeper.undo()

    # --- commands that take time -----------------------------------------------------------------

    def search(
        self,
        name: str | None = None,
        *,
        dates: DatesLike | None = None,
        catalog: CatalogLike = None,
        sensors: str | Sequence[str] | None = None,
        max_gap: Any = None,
        max_cloud: float | None = None,
    ) -> Task:
        """Look for pairs; what was chosen before is chosen no more.

        Args:
            name: The subject; None = the active one.
            dates: Inclusive UTC days; default: those of the sample place.
            catalog: A name, a path, one per sensor, or a list to try; default: the settings'.
            sensors: ``optical``, ``sar`` or both; default both, or what the place has.
            max_gap: Longest gap such as ``"6 days"``, the default.
            max_cloud: Most cloud inside the AOI, per cent; default 20.

        Returns:
            A task; its result is a tuple of `ScenePair`, best first.

        Raises:
            SearchError: An argument makes no sense, or a picture.
            AOIError: No such subject.
            EngineBusy: The subject is busy.
        """

        def work(task: Task, now: Subject) -> tuple[Any, Change]:
            self._progress(task, "searching the catalog")
            pairs, rows = listed(now, self._shelf, task)
            return pairs, lambda state: commands.found(state, now.name, rows)

        with self._keeper.lock:
            subject = self.subject(name)
            query = query_of(
                subject, dates, sensors, max_gap, max_cloud, catalog,
                default_catalog=self._settings.catalog,
            )  # fmt: skip

            def begin(state: State) -> State:
                return commands.start_search(state, subject.name, query)

            return self._keeper.start("search", subject.name, begin, work)

    def choose(self, rank: int, name: str | None = None) -> Task:
        """Choose a pair and load its chip; the chosen one again only loads.

        Args:
            rank: Place in the subject's pairs, 0 = best.
            name: The subject; None = the active one.

        Returns:
            A task; its result is the `Chip`.

        Raises:
            SearchError: Not searched, or no such rank.
            EngineBusy: The subject is busy.
        """

        def work(task: Task, now: Subject) -> tuple[Any, Change]:
            self._progress(task, "loading the pixels")
            return self._shelf.load(now, task), lambda state: state

        with self._keeper.lock:
            subject = self.subject(name)
            check_rank(rank, subject)

            def begin(state: State) -> State:
                return commands.start_choose(state, subject.name, rank)

            return self._keeper.start("load", subject.name, begin, work)

    def ask(
        self,
        question: str,
        name: str | None = None,
        *,
        regions: Sequence[RegionLike] = (),
        options: Options = DEFAULT,
    ) -> Task:
        """Ask about the chosen pair, or the picture; whatever comes of it is a turn.

        Args:
            question: What to ask.
            name: The subject; None = the active one.
            regions: Places to ask about: polygons in lon/lat, or masks on the views' grid.
            options: How to answer.

        Returns:
            A task; its result is the `Answer`.

        Raises:
            PromptError: An empty question, or no pair is chosen.
            EngineBusy: The subject is busy.
        """
        if not question.strip():
            raise PromptError("The question is empty.", change="ask something")
        unlike = {k: v for k, v in asdict(options).items() if v != getattr(DEFAULT, k)}
        changed = {k: v for k, v in unlike.items() if k != "seat"}  # how, not who
        args = {"question": question, "regions": len(regions), "options": changed}

        def work(task: Task, now: Subject) -> tuple[Any, Change]:
            answer = self._answer(task, now, question, regions, options)
            turn = turn_of(task.id, question, answer)
            return answer, lambda state: commands.said(state, now.name, turn)

        with self._keeper.lock:
            subject = self.subject(name)
            if subject.kind == "aoi" and subject.row is None:
                raise PromptError(
                    f"No pair of {subject.name!r} is chosen, so there are no pixels to ask about.",
                    change="search, then choose a pair" if subject.pairs is None else "choose one",
                )

            def begin(state: State) -> State:
                return commands.start_ask(state, subject.name, args)

            return self._keeper.start("ask", subject.name, begin, work)

    def cancel(self, name: str | None = None) -> bool:
        """Stop what runs for a subject; it is over when this returns.

        Args:
            name: None = the active one.

        Returns:
            Whether something ran.
        """
        with self._keeper.lock:
            subject = self._keeper.state.active if name is None else name
            return subject is not None and self._keeper.stop(subject)

    def watch(self, listener: Callable[[Note], None]) -> Callable[[], None]:
        """Hear what happens, from now on, on a thread of the session's own.

        Args:
            listener: What it raises is logged and breaks nothing.

        Returns:
            Stops it.
        """
        return self._keeper.notifier.watch(listener)

    def close(self) -> None:
        """Stop what runs, save, and let others have the file. Twice does no harm."""
        self._keeper.close()

    # --- inside ----------------------------------------------------------------------------------

    def _seen(self, subject: Subject) -> Subject:
        busy = self._keeper.busy(subject.name)
        return subject if busy is None else replace(subject, busy=busy)

    def _free(self, stem: str, *, bare: bool = False) -> str:
        """A name that nobody has: the stem itself where allowed, else with the next number."""
        held = self._keeper.state.subjects
        if bare and stem not in held:
            return stem
        number = 2 if bare else 1
        while f"{stem} {number}" in held:
            number += 1
        return f"{stem} {number}"

    def _keep(self, view: View) -> str:
        """Where a picture that came as an array is found again."""
        key = view.hash[:20]
        if self._path is None:
            self._pictures[_IN_MEMORY + key] = view
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

    def _progress(self, task: Task, text: str) -> None:
        note = Note(kind="progress", subject=task.subject, ask=task.id, text=text)
        self._keeper.tell(task, note)

    def _answer(
        self, task: Task, subject: Subject, question: str, regions: Sequence[RegionLike],
        options: Options,
    ) -> Any:  # fmt: skip
        """Ask and wait, on the task's thread."""
        about = self._about(task, subject)
        if self.engine is None:
            self._progress(task, "loading the model")
            from earthmind_lab.engine.loading import load_engine

            self.engine = load_engine("nano")
        task.check()
        history = [
            Turn(question=turn.question, reply=turn.raw)
            for turn in subject.turns
            if turn.state == "done" and not turn.stale
        ]
        talk = Conversation(
            about, self.engine, turns=history, search=how_found(subject), seat=self._seat
        )
        pending = talk.submit(question, regions=regions, options=options)
        task.on_stop(pending.cancel)
        self._progress(task, "reading the question")
        for event in pending.events():
            task.tell(event)
            if isinstance(event, Token):
                note = Note(kind="token", subject=subject.name, ask=task.id, text=event.text)
                self._keeper.tell(task, note)
        self._progress(task, "checking the answer")
        return pending.result()

    def _about(self, task: Task, subject: Subject) -> Chip | View | Path:
        """The pixels of a subject; loaded again after a restart."""
        if subject.picture is not None:
            held = self._pictures.get(subject.picture)
            return Path(subject.picture) if held is None else held
        if self._shelf.chip(subject) is None:
            self._progress(task, "loading the pixels")
            chip = self._shelf.load(subject, task)
            self._keeper.tell(task, Note(kind="changed", subject=subject.name, what="chip"))
            return chip
        return self._shelf.load(subject, task)
