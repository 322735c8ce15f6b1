"""Pixels and scenes of a session: loaded once, found again by content, made into plain data.

Shelf       chips, candidates and quick-looks in memory, loaded where they are not
Missed      a search that found no pair, with what it looked at
listed()    a search's pairs as rows, with what each would cost to load
turn_of()   an answer as a turn
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from earthmind_lab.answer import Answer
from earthmind_lab.chip import Chip
from earthmind_lab.errors import Cancelled, EarthMindError, NoPairFound, SearchError
from earthmind_lab.exchange import View
from earthmind_lab.recording import plain
from earthmind_lab.scene import Candidates, Rejected, Scene, ScenePair
from earthmind_lab.session.own_files import Sha256, open_own
from earthmind_lab.session.scene_facts import facts_of
from earthmind_lab.session.subject import PairRow, SaidTurn, Subject
from earthmind_lab.session.tasks import Task
from earthmind_lab.session.two_dates import ids_of

if TYPE_CHECKING:
    from earthmind_lab.data.budget import Budget, Progress

Ids: TypeAlias = tuple[str | None, str | None]
"""Of the optical and the SAR scene of a pair."""
CHIP_BYTES = 1_000_000_000
"""Loaded chips beyond this are dropped, the longest unused first; they load again."""
DEADLINE = 120.0
"""Seconds that a search, and then a load, may take where nobody says otherwise."""
SEARCHES_KEPT = 32
"""Searches whose scenes stay in memory."""
LOOKS_KEPT = 256
"""Quick-looks that stay in memory: 27 kB each."""
COSTS = 40
"""Pairs, the best ones, whose cost is worked out: for that the headers of their files are read."""


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A search that found no pair; the subject is as it was before it."""

    query: Mapping[str, Any]
    """Its arguments, as `Subject.query`."""
    candidates: Candidates
    """Rejected ones alone."""
    message: str
    """The nearest miss and what would admit it."""


class Shelf:
    """Chips and pairs in memory, by content: an undo finds them again at once. Any thread.

    Args:
        sha256: Hashes the files of a user's own, to see whether they are still the same.
    """

    def __init__(self, sha256: Sha256) -> None:
        self._sha256 = sha256
        self._lock = threading.Lock()
        self._chips: OrderedDict[str, Chip] = OrderedDict()
        self._found: OrderedDict[str, Candidates] = OrderedDict()
        self._missed: OrderedDict[str, Missed] = OrderedDict()
        self._looks: OrderedDict[tuple[str, str], View] = OrderedDict()
        self._budgets: dict[str, Budget] = {}

    def chip(self, subject: Subject) -> Chip | None:
        """The loaded chip of the pair that is chosen now."""
        return self._held(_key(subject))

    def load(self, subject: Subject, task: Task) -> Chip:
        """The chip of the chosen pair, or of the files, from memory or loaded.

        Raises:
            LoadError: It can't be loaded.
            SearchError: The pair is no longer found.
            Cancelled: The task was stopped.
        """
        held = self.chip(subject)
        if held is not None:
            return held
        from earthmind_lab.data.files import Reader
        from earthmind_lab.data.load import load_chip

        assert subject.aoi is not None
        if subject.files is not None:
            chip = open_own(subject, Reader(budget=self.budget(task)), self._sha256)
        else:
            assert subject.row is not None
            pair = self._pair(subject, subject.row.ids, task)
            chip = load_chip(pair, subject.aoi, reader=Reader(budget=self.budget(task)))
        return self._keep_chip(_key(subject), chip)

    def earlier(self, subject: Subject, ids: Ids) -> Chip | None:
        """The loaded chip of an earlier pair, on the grid of the chosen one.

        Args:
            subject: Whose.
            ids: Of the earlier pair, as `PairRow.ids`.
        """
        return self._held(_earlier_key(subject, ids))

    def load_earlier(self, subject: Subject, ids: Ids, task: Task) -> Chip:
        """It, from memory or loaded; the chosen pair's chip, whose grid it takes, before it.

        Raises:
            LoadError: One of them can't be loaded.
            SearchError: A pair is no longer found.
            Cancelled: The task was stopped.
        """
        held = self.earlier(subject, ids)
        if held is not None:
            return held
        from earthmind_lab.data.files import Reader
        from earthmind_lab.data.load import load_chip, plan_chip

        later = self.load(subject, task)
        pair = self._pair(subject, ids, task)
        assert subject.aoi is not None
        reader = Reader(budget=self.budget(task))
        bands = later.bands or None
        plan = plan_chip(pair, subject.aoi, bands=bands, grid=later.grid, reader=reader)
        chip = load_chip(pair, subject.aoi, plan=plan, reader=reader)
        return self._keep_chip(_earlier_key(subject, ids), chip)

    def chips(self, subject: Subject) -> tuple[Chip, ...]:
        """All that are loaded of a subject's pairs and of the dates that its turns compared."""
        ranks = range(len(subject.pairs or ()))
        rows = [replace(subject, chosen=rank) for rank in ranks] or [subject]
        held = [self.chip(each) for each in rows]
        for before in (turn.before for turn in subject.turns if turn.before is not None):
            later = [each for each in rows if each.row and each.row.ids == ids_of(before["after"])]
            held += [self.earlier(each, ids_of(before["ids"])) for each in later]
        return tuple({id(chip): chip for chip in held if chip is not None}.values())

    def search(self, subject: Subject, budget: Budget) -> Sequence[ScenePair]:
        """The pairs of the subject's query, best first.

        Raises:
            SearchError: None, or the catalog can't be read.
            Cancelled: The task was stopped.
        """
        from earthmind_lab.data.search import search_candidates

        assert subject.aoi is not None
        assert subject.query is not None
        found = search_candidates(subject.aoi, **subject.query, budget=budget)
        with self._lock:
            _keep(self._found, _search_key(subject), found, SEARCHES_KEPT)
        return found.pairs

    def miss(self, before: Subject, query: Mapping[str, Any], error: SearchError) -> None:
        """Keep what a search looked at that found no pair.

        Args:
            before: The subject as it was before the search, and is again.
            query: Of the search.
            error: What it came to.
        """
        if error.rejected:
            seen = Candidates(pairs=(), rejected=tuple(error.rejected))
            missed = Missed(query=query, candidates=seen, message=str(error))
            with self._lock:
                _keep(self._missed, _search_key(before), missed, SEARCHES_KEPT)

    def forget_miss(self, subject: Subject) -> None:
        """A new search begins."""
        with self._lock:
            self._missed.pop(_search_key(subject), None)

    def missed(self, subject: Subject) -> Missed | None:
        """The subject's last search, where that found no pair."""
        if subject.aoi is None:
            return None
        with self._lock:
            return self._missed.get(_search_key(subject))

    def candidates(self, subject: Subject) -> Candidates | None:
        """What the subject's search looked at; None = not in memory."""
        if subject.aoi is None or subject.query is None:
            return None
        with self._lock:
            return self._found.get(_search_key(subject))

    def quicklook(self, subject: Subject, scene: str, budget: Budget) -> View:
        """A small picture of a scene of the search, from memory or read.

        Raises:
            SearchError: There is no such scene in memory.
            LoadError: It can't be read.
            Cancelled: The budget was cancelled.
        """
        from earthmind_lab.data.files import Reader
        from earthmind_lab.data.preview import preview

        found = next((each for each in self.scenes(subject) if each.id == scene), None)
        if found is None or subject.aoi is None:
            raise SearchError(
                f"The search of {subject.name!r} holds no scene {scene!r} in memory.",
                change="search again, or the id of one of its scenes",
            )
        key = subject.aoi.geometry.wkb_hex, f"{found.collection} {found.sensor} {scene}"
        with self._lock:
            if key in self._looks:
                self._looks.move_to_end(key)
                return self._looks[key]
        view = preview(found, subject.aoi, reader=Reader(budget=budget))
        with self._lock:
            _keep(self._looks, key, view, LOOKS_KEPT)
        return view

    def scenes(self, subject: Subject) -> tuple[Scene, ...]:
        """Every scene that the subject's searches looked at, as far as they are in memory."""
        missed = self.missed(subject)
        looked = [self.candidates(subject), missed.candidates if missed else None]
        held: dict[str, Scene] = {}
        for found in filter(None, looked):
            candidates: list[ScenePair | Rejected] = [*found.pairs, *found.rejected]
            held |= {scene.id: scene for each in candidates for scene in each.scenes}
        return tuple(held.values())

    def progress(self, name: str) -> Progress | None:
        """How far the last search or load of a subject is, or was."""
        budget = self._budgets.get(name)
        return None if budget is None else budget.progress

    def budget(self, task: Task, seconds: float = DEADLINE) -> Budget:
        """Time for reading that ends when the task is stopped.

        Raises:
            Cancelled: It was stopped already.
        """
        from earthmind_lab.data.budget import Budget

        budget = Budget(seconds)
        self._budgets[task.subject] = budget
        task.on_stop(budget.cancel)
        return budget

    def _held(self, key: str | None) -> Chip | None:
        with self._lock:
            if key is None or key not in self._chips:
                return None
            self._chips.move_to_end(key)
            return self._chips[key]

    def _keep_chip(self, key: str | None, chip: Chip) -> Chip:
        assert key is not None  # a pair is chosen
        with self._lock:
            self._chips[key] = chip
            while len(self._chips) > 1 and sum(map(chip_bytes, self._chips.values())) > CHIP_BYTES:
                self._chips.popitem(last=False)
        return chip

    def _pair(self, subject: Subject, ids: Ids, task: Task) -> ScenePair:
        """A pair of the subject as scenes; searched again after a restart."""
        found = self.candidates(subject)
        pairs = self.search(subject, self.budget(task)) if found is None else found.pairs
        for pair in pairs:
            if (pair.optical and pair.optical.id, pair.sar and pair.sar.id) == ids:
                return pair
        wanted = " and ".join(each for each in ids if each)
        raise NoPairFound(
            f"The pair {wanted} of {subject.name!r} is no longer in the catalog.",
            found=f"{len(pairs)} other pairs",
            change="search again and choose another",
        )


def listed(
    subject: Subject, shelf: Shelf, task: Task, deadline: float = DEADLINE
) -> tuple[tuple[ScenePair, ...], Any]:
    """Search, and say what each pair would cost to load.

    Returns:
        The pairs, and a row for each.

    Raises:
        SearchError: Nothing found, with the nearest miss.
        Cancelled: The task was stopped.
    """
    assert subject.aoi is not None
    budget, rows = shelf.budget(task, deadline), []
    pairs = tuple(shelf.search(subject, budget))
    for number, pair in enumerate(pairs):
        task.check()
        budget.step("working out what a load costs", number, min(COSTS, len(pairs)))
        scenes = tuple(plain([facts_of(scene, subject.aoi) for scene in pair.scenes]))
        cost = _cost(pair, subject, budget) if number < COSTS else {}
        rows.append(PairRow(pair=plain(pair.to_dict()), cost=cost, scenes=scenes))
    return pairs, tuple(rows)


def turn_of(ident: str, asked: Mapping[str, Any], answer: Answer) -> SaidTurn:
    """An answer as a turn: plain data, nothing that needs the engine or the chip.

    Args:
        ident: Of the turn.
        asked: Its fields ``question``, ``parent``, ``regions``, ``options``, ``against`` and
            ``before``; only the first must be there.
        answer: What came of it.
    """
    return SaidTurn(
        **{**asked, "regions": tuple(asked.get("regions", ()))},
        id=ident,
        state="done",
        text=answer.text,
        notice=answer.notice,
        message=answer.reply.remark,
        features=plain(_marked(answer)),
        spans=tuple(found.text_span for found in answer.reply.objects),
        evidence=tuple(
            plain({**claim.to_dict(), "sentence": claim.sentence()}) for claim in answer.evidence
        ),
        record=plain(answer.record.to_dict()),
        raw=answer.reply.raw or answer.reply.text,
    )


def _marked(answer: Answer) -> dict[str, Any]:
    """The features of an answer, each with the mark that it is a part of."""
    found = answer.to_geojson()
    for feature, detection in zip(found["features"], answer.detections, strict=True):
        feature["properties"]["mark"] = detection.mark
    return found


def _cost(pair: ScenePair, subject: Subject, budget: Budget) -> Mapping[str, Any]:
    """What a load reads and makes, or why it would be refused; empty where nobody knows yet."""
    from earthmind_lab.data.files import Reader
    from earthmind_lab.data.load import plan_chip

    assert subject.aoi is not None
    try:
        plan = plan_chip(pair, subject.aoi, reader=Reader(budget=budget))
    except Cancelled:
        raise
    except EarthMindError as error:
        return {"error": str(error)} if budget.left else {}
    height, width = (int(side) for side in plan.grid.shape)
    return {"reads": plan.reads, "bytes": int(plan.bytes), "width": width, "height": height}


def _search_key(subject: Subject) -> str:
    assert subject.aoi is not None
    return json.dumps([subject.aoi.geometry.wkb_hex, subject.query])


def _key(subject: Subject) -> str | None:
    """What a chip depends on; None where nothing is chosen."""
    if subject.files is not None and subject.aoi is not None:
        return json.dumps([subject.files, subject.aoi.geometry.wkb_hex, subject.aoi.name])
    if subject.aoi is None or subject.row is None:
        return None
    return json.dumps([_search_key(subject), subject.aoi.name, subject.row.ids])


def _earlier_key(subject: Subject, ids: Ids) -> str | None:
    key = _key(subject)
    return None if key is None else json.dumps([key, ids])


_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


def _keep(held: OrderedDict[_Key, _Kept], key: _Key, value: _Kept, most: int) -> None:
    """Put it in as the newest, and the oldest out."""
    held[key] = value
    held.move_to_end(key)
    while len(held) > most:
        held.popitem(last=False)


def chip_bytes(chip: Chip) -> int:
    """What its pixels take in memory."""
    arrays = (chip.optical, chip.sar, chip.inside, chip.valid_optical, chip.valid_sar)
    return sum(array.nbytes for array in arrays if array is not None)
