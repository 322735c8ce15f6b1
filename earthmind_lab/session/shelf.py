"""Pixels and scenes of a session: loaded once, found again by content, made into plain data.

Shelf       chips and scene pairs in memory, loaded where they are not
listed()    a search's pairs as rows, with what each would cost to load
turn_of()   an answer as a turn
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthmind_lab.answer import Answer
from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError, NoPairFound
from earthmind_lab.recording import plain
from earthmind_lab.scene import Candidates, ScenePair
from earthmind_lab.session.subject import PairRow, SaidTurn, Subject
from earthmind_lab.session.tasks import Task

if TYPE_CHECKING:
    from earthmind_lab.data.budget import Budget

CHIP_BYTES = 1_000_000_000
"""Loaded chips beyond this are dropped, the longest unused first; they load again."""
DEADLINE = 120.0
"""Seconds that a search, and then a load, may take where nobody says otherwise."""
SEARCHES_KEPT = 32
"""Searches whose scenes stay in memory."""


class Shelf:
    """Chips and pairs in memory, by content: an undo finds them again at once. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chips: OrderedDict[str, Chip] = OrderedDict()
        self._found: OrderedDict[str, Candidates] = OrderedDict()

    def chip(self, subject: Subject) -> Chip | None:
        """The loaded chip of the pair that is chosen now."""
        key = _key(subject)
        with self._lock:
            if key is None or key not in self._chips:
                return None
            self._chips.move_to_end(key)
            return self._chips[key]

    def load(self, subject: Subject, task: Task) -> Chip:
        """The chip of the chosen pair, from memory or loaded.

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

        pair = self._pair(subject, task)
        assert subject.aoi is not None
        reader = Reader(budget=_budget(task))
        chip = load_chip(pair, subject.aoi, reader=reader)
        key = _key(subject)
        assert key is not None
        with self._lock:
            self._chips[key] = chip
            while len(self._chips) > 1 and sum(map(_size, self._chips.values())) > CHIP_BYTES:
                self._chips.popitem(last=False)
        return chip

    def search(
        self, subject: Subject, task: Task, deadline: float = DEADLINE
    ) -> Sequence[ScenePair]:
        """The pairs of the subject's query, best first.

        Raises:
            SearchError: None, or the catalog can't be read.
            Cancelled: The task was stopped.
        """
        from earthmind_lab.data.search import search_candidates

        assert subject.aoi is not None
        assert subject.query is not None
        budget = _budget(task, deadline)
        found = search_candidates(subject.aoi, **subject.query, budget=budget)
        with self._lock:
            self._found[_search_key(subject)] = found
            while len(self._found) > SEARCHES_KEPT:
                self._found.popitem(last=False)
        return found.pairs

    def candidates(self, subject: Subject) -> Candidates | None:
        """What the subject's search looked at; None = not in memory."""
        if subject.aoi is None or subject.query is None:
            return None
        with self._lock:
            return self._found.get(_search_key(subject))

    def _pair(self, subject: Subject, task: Task) -> ScenePair:
        """The chosen pair as scenes; searched again after a restart."""
        row = subject.row
        assert row is not None
        found = self.candidates(subject)
        pairs = self.search(subject, task) if found is None else found.pairs
        for pair in pairs:
            if (pair.optical and pair.optical.id, pair.sar and pair.sar.id) == row.ids:
                return pair
        wanted = " and ".join(each for each in row.ids if each)
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
    pairs = tuple(shelf.search(subject, task, deadline))
    rows = []
    for pair in pairs:
        task.check()
        scenes = [
            {"id": s.id, "modality": s.modality, "sensor": s.sensor, "observed": s.observed}
            for s in pair.scenes
        ]
        rows.append(
            PairRow(
                pair=plain(pair.to_dict()), cost=_cost(pair, subject), scenes=tuple(plain(scenes))
            )
        )
    return pairs, tuple(rows)


def turn_of(ident: str, asked: Mapping[str, Any], answer: Answer) -> SaidTurn:
    """An answer as a turn: plain data, nothing that needs the engine or the chip.

    Args:
        ident: Of the turn.
        asked: Its fields ``question``, ``parent``, ``regions``, ``options`` and ``against``; only
            the first must be there.
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


def _budget(task: Task, seconds: float = DEADLINE) -> Budget:
    """Time for reading that ends when the task is stopped.

    Raises:
        Cancelled: It was stopped already.
    """
    from earthmind_lab.data.budget import Budget

    budget = Budget(seconds)
    task.on_stop(budget.cancel)
    return budget


def _cost(pair: ScenePair, subject: Subject) -> Mapping[str, Any]:
    from earthmind_lab.data.load import plan_chip

    assert subject.aoi is not None
    try:
        plan = plan_chip(pair, subject.aoi)
    except EarthMindError as error:
        return {"error": str(error)}
    height, width = (int(side) for side in plan.grid.shape)
    return {"reads": plan.reads, "bytes": int(plan.bytes), "width": width, "height": height}


def _search_key(subject: Subject) -> str:
    assert subject.aoi is not None
    return json.dumps([subject.aoi.geometry.wkb_hex, subject.aoi.name, subject.query])


def _key(subject: Subject) -> str | None:
    """What a chip depends on; None where no pair is chosen."""
    if subject.aoi is None or subject.row is None:
        return None
    return json.dumps([_search_key(subject), subject.row.ids])


def _size(chip: Chip) -> int:
    arrays = (chip.optical, chip.sar, chip.inside, chip.valid_optical, chip.valid_sar)
    return sum(array.nbytes for array in arrays if array is not None)
