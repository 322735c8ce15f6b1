"""Commands about pairs: search a catalog, look at the candidates, choose a pair and load it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from earthmind_lab.scene import Candidates
from earthmind_lab.session import commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.commands import State
from earthmind_lab.session.keeper import Change
from earthmind_lab.session.queries import check_rank, query_of
from earthmind_lab.session.shelf import DEADLINE, listed
from earthmind_lab.session.subject import Subject
from earthmind_lab.session.tasks import Task

if TYPE_CHECKING:
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
            pairs, rows = listed(now, self._shelf, task, deadline)
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
                return commands.start_search(state, subject.name, query)

            return self._keeper.start("search", subject.name, begin, work)

    def candidates(self, name: str | None = None) -> Candidates | None:
        """Every combination that the search looked at, with the reason of each that was rejected.

        They are in memory only: None before a search, and after a restart until the next one.

        Args:
            name: The subject; None = the active one.

        Raises:
            AOIError: There is none.
        """
        return self._shelf.candidates(self.subject(name))

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
