"""Commands about pairs: search a catalog, look at the candidates, pin, exclude, choose and load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from earthmind_lab.changing import sensor_of
from earthmind_lab.chip import Chip
from earthmind_lab.errors import SearchError
from earthmind_lab.exchange import View
from earthmind_lab.scene import Candidates
from earthmind_lab.session import commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.commands import State
from earthmind_lab.session.keeper import Change
from earthmind_lab.session.queries import check_rank, picked, query_of
from earthmind_lab.session.shelf import DEADLINE, Missed, listed
from earthmind_lab.session.subject import Subject
from earthmind_lab.session.tasks import Task
from earthmind_lab.session.two_dates import check_earlier, dates_of, ids_of

if TYPE_CHECKING:
    from earthmind_lab.data.budget import Budget, Progress
    from earthmind_lab.data.choices import IdsLike
    from earthmind_lab.data.limits import Day
    from earthmind_lab.data.search import CatalogLike, DatesLike


class PairCommands(SessionBase):
    """Each gives a task."""

    def search(  # noqa: PLR0913  a door: options by name
        self,
        name: str | None = None,
        *,
        dates: DatesLike | None = None,
        around: Day | None = None,
        catalog: CatalogLike = None,
        sensors: str | Sequence[str] | None = None,
        max_gap: Any = None,
        max_cloud: float | None = None,
        purpose: str | None = None,
        pin: IdsLike = None,
        exclude: IdsLike = None,
        deadline: float = DEADLINE,
    ) -> Task:
        """Look for pairs; what was chosen before is chosen no more.

        Args:
            name: The subject; None = the active one.
            dates: Inclusive UTC days; default: those of the sample place.
            around: A day or instant (UTC) that the pair should be near; see `search_pairs`.
            catalog: A name, a path, one per sensor, or a list to try; default: the settings'.
            sensors: ``optical``, ``sar`` or both, or keys of sensors; default both, or what the
                place has.
            max_gap: Longest gap such as ``"6 days"``, the default.
            max_cloud: Most cloud inside the AOI, per cent; default 20.
            purpose: ``flood``, ``default`` or ``settlement``: how fast a gap devalues a pair.
            pin: Ids of scenes to use, whatever their cloud and gap; recorded as the user's.
            exclude: Ids of scenes not to use; recorded as the user's.
            deadline: Seconds that it may take; stopping the task ends the reading at once.

        Returns:
            A task; its result is a tuple of `ScenePair`, best first.

        Raises:
            SearchError: An argument makes no sense, or a picture.
            AOIError: No such subject.
            EngineBusy: The subject is busy.
        """

        def work(task: Task, now: Subject) -> tuple[Any, Change]:
            self._progress(task, "searching the catalog")
            try:
                pairs, rows = listed(now, self._shelf, task, deadline)
            except SearchError as error:
                self._shelf.miss(subject, query, error)
                raise
            return pairs, lambda state: commands.found(state, now.name, rows)

        with self._keeper.lock:
            subject = self.subject(name)
            asked = {
                "dates": dates, "around": around, "catalog": catalog, "sensors": sensors,
                "max_gap": max_gap, "max_cloud": max_cloud, "purpose": purpose, "pin": pin,
                "exclude": exclude,
            }  # fmt: skip
            query = query_of(subject, asked, default_catalog=self._settings.catalog)

            def begin(state: State) -> State:
                self._shelf.forget_miss(subject)
                return commands.start_search(state, subject.name, query)

            return self._keeper.start("search", subject.name, begin, work)

    def pick(
        self, scene: str, how: Literal["pin", "exclude", "free"], name: str | None = None
    ) -> Task:
        """The last search again, with one more scene pinned or excluded, or one less.

        Args:
            scene: Its id.
            how: ``pin``, ``exclude``, or ``free``: left to the ranking again.
            name: The subject; None = the active one.

        Returns:
            A task, as `search`; the choice is recorded as the user's, and `undo` takes it back.

        Raises:
            SearchError: Not searched.
            AOIError: No such subject.
            EngineBusy: The subject is busy.
        """
        with self._keeper.lock:
            subject = self.subject(name)
            missed = self._shelf.missed(subject)
            query = missed.query if missed else subject.query
            if query is None:
                asked = f"{subject.name!r} was not searched yet."
                raise SearchError(asked, change="search() first")
            return self.search(subject.name, **picked(query, scene, how))

    def candidates(self, name: str | None = None) -> Candidates | None:
        """Every combination that the search looked at, with the reason of each that was rejected.

        They are in memory only: None before a search, and after a restart until the next one.

        Args:
            name: The subject; None = the active one.

        Raises:
            AOIError: There is none.
        """
        return self._shelf.candidates(self.subject(name))

    def missed(self, name: str | None = None) -> Missed | None:
        """The last search, where it found no pair: what it asked and what it looked at.

        It is in memory only, and goes with the next search.

        Args:
            name: The subject; None = the active one.

        Raises:
            AOIError: There is none.
        """
        return self._shelf.missed(self.subject(name))

    def progress(self, name: str | None = None) -> Progress | None:
        """How far a search or a load is; None where neither runs.

        Args:
            name: The subject; None = the active one.

        Raises:
            AOIError: There is none.
        """
        subject = self.subject(name)
        return self._shelf.progress(subject.name) if subject.busy in ("search", "load") else None

    def quicklook(
        self, scene: str, name: str | None = None, *, budget: Budget | None = None
    ) -> View:
        """A small picture of a scene that the search looked at; kept in memory. Blocks.

        Args:
            scene: Its id.
            name: The subject; None = the active one.
            budget: Time and stop button; default `data.preview.SECONDS`.

        Raises:
            AOIError: No such subject.
            Cancelled: The budget was cancelled.
            LoadError: It can't be read.
            SearchError: There is no such scene in memory: search again.
        """
        from earthmind_lab.data import budget as budgets
        from earthmind_lab.data.preview import SECONDS

        return self._shelf.quicklook(self.subject(name), scene, budget or budgets.Budget(SECONDS))

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

    def compare(self, rank: int | None, name: str | None = None) -> Task:
        """Compare the chosen pair with one of an earlier date: questions are about both from now.

        Both are seen by one sensor, SAR where that is of two dates. It ends when another pair is
        chosen.

        Args:
            rank: Place of the earlier pair, 0 = best; None = questions are about one date again.
            name: The subject; None = the active one.

        Returns:
            A task; its result is the earlier `Chip` on the grid of the chosen one, or None.

        Raises:
            SearchError: Not searched, no such rank, or no pair is chosen.
            PromptError: It shows no earlier date. From the task: the two can't be compared.
            EngineBusy: The subject is busy.
        """

        def work(task: Task, now: Subject) -> tuple[Chip | None, Change]:
            dates = dates_of(now)
            if dates is None:
                return None, lambda state: state
            self._progress(task, "loading the pixels of the earlier date")
            chip = self._shelf.load_earlier(now, ids_of(dates["ids"]), task)
            sensor_of(chip, self._shelf.load(now, task), dates["sensor"])
            return chip, lambda state: state

        with self._keeper.lock:
            subject = self.subject(name)
            if rank is not None:
                check_earlier(subject, rank)

            def begin(state: State) -> State:
                return commands.start_compare(state, subject.name, rank)

            return self._keeper.start("load", subject.name, begin, work)

    def earlier(self, name: str | None = None) -> Chip | None:
        """The loaded chip of the pair that the chosen one is compared with, on its grid.

        Args:
            name: The subject; None = the active one.

        Raises:
            AOIError: There is none.
        """
        subject = self.subject(name)
        before = subject.row_before
        return None if before is None else self._shelf.earlier(subject, before.ids)
