"""What a session holds, as values: subjects, ranked pairs, marked regions, turns, notes.

All but the notes go to JSON and back, so that they survive a restart.

>>> turn = SaidTurn(id="ask-1", question="Is there water?", state="done", text="Yes.")
>>> SaidTurn.from_dict(turn.to_dict()) == turn
True
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

from earthmind_lab.aoi import AOI
from earthmind_lab.recording import plain

Busy: TypeAlias = Literal["search", "load", "ask", "replay"]
SubjectKind: TypeAlias = Literal["aoi", "files", "picture"]
KEPT = "keep-"
"""How the id of a turn begins that was answered elsewhere; see `commands.Command.task`."""


def no_features() -> dict[str, Any]:
    """A FeatureCollection of nothing."""
    return {"type": "FeatureCollection", "features": []}


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One ranked pair, as a table shows it."""

    pair: Mapping[str, Any]
    """`ScenePair.to_dict`: ids, gap, overlap, cloud, score, factors, reasons."""
    cost: Mapping[str, Any]
    """``reads``, ``bytes``, ``width``, ``height`` (pixels) of the load, or ``error``: why it would
    be refused."""
    scenes: tuple[Mapping[str, Any], ...] = ()
    """Per scene, optical first: ``id``, ``modality``, ``sensor``, ``observed``."""

    @property
    def ids(self) -> tuple[str | None, str | None]:
        """Ids of the optical and the SAR scene: by them the pair is found again."""
        return self.pair.get("optical"), self.pair.get("sar")

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "pair": dict(self.pair), "cost": dict(self.cost),
            "scenes": [dict(scene) for scene in self.scenes],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairRow:
        """What `to_dict` gave."""
        return cls(pair=data["pair"], cost=data["cost"], scenes=tuple(data["scenes"]))


@dataclass(frozen=True, kw_only=True)
class SaidTurn:
    """One question with what came of it."""

    id: str
    """The id of its task and of its notes."""
    question: str
    state: Literal["done", "stopped", "failed"]
    text: str = ""
    """What the model said, in full or so far."""
    notice: str = ""
    """What to know about the model that spoke."""
    message: str = ""
    """For ``stopped`` and ``failed``: what happened, what to do. For ``done``: `Reply.remark`."""
    features: Mapping[str, Any] = field(default_factory=no_features)
    """FeatureCollection in EPSG:4326: ``label``, ``score``, ``area_m2``, ``source``,
    ``observed``."""
    evidence: tuple[Mapping[str, Any], ...] = ()
    """`Claim.to_dict` each, with its ``sentence``."""
    record: Mapping[str, Any] | None = None
    """How it came about; None where there is no answer."""
    raw: str = ""
    """The reply with its control marks: what the model reads as history."""
    stale: bool = False
    """Asked about another pair than the one that is chosen now; no history for the model."""
    parent: str | None = None
    """Id of the turn that it goes on from; None = the talk begins with it."""
    regions: tuple[Mapping[str, Any] | None, ...] = ()
    """GeoJSON geometry in EPSG:4326 of each region that was asked about; None for one that was
    given as a mask."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those of `exchange.Options` that differ from the defaults."""
    spans: tuple[tuple[int, int] | None, ...] = ()
    """Where `text` names what was marked: first character and the one after the last, by ``mark``
    of the features."""
    against: str | None = None
    """Id of the turn that asked the same with both sensors; None where nothing was taken away."""
    before: Mapping[str, Any] | None = None
    """For a question about two dates, `two_dates.dates_of`: by it the same two are asked about
    again. None = about one date."""

    @property
    def kept(self) -> bool:
        """Whether it was answered elsewhere, and kept here."""
        return self.id.startswith(KEPT)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        lists = {key: list(getattr(self, key)) for key in ("evidence", "regions", "spans")}
        return {**vars(self), **lists}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SaidTurn:
        """What `to_dict` gave."""
        lists = {key: tuple(data.get(key, ())) for key in ("evidence", "regions")}
        spans = tuple(span and (int(span[0]), int(span[1])) for span in data.get("spans", ()))
        return cls(**{**data, **lists, "spans": spans})


@dataclass(frozen=True, kw_only=True)
class MarkedRegion:
    """A place inside an AOI that the next questions are about."""

    id: str
    label: str
    """How people call it."""
    geometry: Mapping[str, Any]
    """GeoJSON Polygon or MultiPolygon in EPSG:4326."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What one talk is about: an AOI with its search and pair, own files, or a plain picture."""

    name: str
    kind: SubjectKind
    aoi: AOI | None = None
    """Of files the area that is read of them; None for a picture."""
    place: str | None = None
    """The sample place it came from."""
    picture: str | None = None
    """Path of a plain picture; else None."""
    files: Mapping[str, Any] | None = None
    """Of own files: ``arguments`` (of `open_chip`) and ``hashes`` (SHA-256 by path); else None."""
    query: Mapping[str, Any] | None = None
    """The search's arguments: ``dates``, ``sensors``, ``max_gap``, ``max_cloud``, ``catalog``."""
    pairs: tuple[PairRow, ...] | None = None
    """Best first; None = not searched."""
    chosen: int | None = None
    """Rank of the pair that is (to be) loaded, 0 = best."""
    before: int | None = None
    """Rank of the earlier pair that the chosen one is compared with; None = with none."""
    turns: tuple[SaidTurn, ...] = ()
    """All that was asked, oldest first; `talk` is the branch that one reads."""
    head: str | None = None
    """Id of the turn that the next question goes on from; None = it begins anew."""
    regions: tuple[MarkedRegion, ...] = ()
    version: int = 1
    """Counts the geometries that this AOI has had."""
    versions: tuple[Subject, ...] = ()
    """Its other geometries, each with the search, the pair and the talk that belong to it, by
    `version`. They have no versions themselves."""
    busy: Busy | None = None
    """What runs now. Only in snapshots of a session: no command ever stores it."""

    def __str__(self) -> str:
        """As errors call it."""
        what = {"aoi": "an area", "files": "files of your own", "picture": "a picture"}
        return f"{self.name!r}, {what[self.kind]},"

    @property
    def row(self) -> PairRow | None:
        """The pair that is (to be) loaded."""
        return None if self.chosen is None or self.pairs is None else self.pairs[self.chosen]

    @property
    def row_before(self) -> PairRow | None:
        """The earlier pair that it is compared with."""
        return None if self.before is None or self.pairs is None else self.pairs[self.before]

    @property
    def talk(self) -> tuple[SaidTurn, ...]:
        """The turns that lead to `head`, oldest first."""
        return self.talk_to(self.head)

    def turn(self, ident: str) -> SaidTurn | None:
        """The turn of an id, on whichever branch."""
        return next((turn for turn in self.turns if turn.id == ident), None)

    def talk_to(self, ident: str | None) -> tuple[SaidTurn, ...]:
        """The turns that lead to one of them, it included, oldest first."""
        led: list[SaidTurn] = []
        turn = None if ident is None else self.turn(ident)
        while turn is not None:
            led.append(turn)
            turn = None if turn.parent is None else self.turn(turn.parent)
        return tuple(reversed(led))

    def past_kept(self, ident: str | None) -> str | None:
        """`head` where nothing but kept answers leads from a turn to it, else the turn."""
        at = None if self.head is None else self.turn(self.head)
        while at is not None and at.id != ident and at.kept:
            at = None if at.parent is None else self.turn(at.parent)
        return self.head if (at and at.id) == ident else ident

    def branches(self, turn: SaidTurn) -> tuple[SaidTurn, ...]:
        """The turns that go on from the same one as this, it included, oldest first."""
        return tuple(each for each in self.turns if each.parent == turn.parent)

    def leaf(self, ident: str) -> str:
        """Id of the turn at which the newest branch through a turn ends."""
        while after := [turn.id for turn in self.turns if turn.parent == ident]:
            ident = after[-1]
        return ident

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all that a restart needs."""
        return {
            "name": self.name,
            "kind": self.kind,
            # Coordinates in full: an AOI comes back as exactly the one that was searched.
            "aoi": plain(self.aoi.to_dict()) if self.aoi else None,
            "place": self.place,
            "picture": self.picture,
            "files": dict(self.files) if self.files is not None else None,
            "query": dict(self.query) if self.query is not None else None,
            "pairs": None if self.pairs is None else [row.to_dict() for row in self.pairs],
            "chosen": self.chosen,
            "before": self.before,
            "turns": [turn.to_dict() for turn in self.turns],
            "head": self.head,
            "regions": [dict(vars(region)) for region in self.regions],
            "version": self.version,
            "versions": [older.to_dict() for older in self.versions],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Subject:
        """What `to_dict` gave.

        Raises:
            AOIError: The area in it is none.
        """
        aoi, pairs = data["aoi"], data["pairs"]
        subject = cls(
            name=str(data["name"]),
            kind=_kind(data["kind"]),
            aoi=AOI.from_geojson(aoi["geometry"], name=str(aoi["name"])) if aoi else None,
            place=data["place"],
            picture=data["picture"],
            files=data.get("files"),
            query=data["query"],
            pairs=None if pairs is None else tuple(PairRow.from_dict(row) for row in pairs),
            chosen=data["chosen"],
            before=data.get("before"),  # schema 2 has none
            turns=tuple(SaidTurn.from_dict(turn) for turn in data["turns"]),
            head=data["head"],
            regions=tuple(MarkedRegion(**region) for region in data["regions"]),
            version=int(data["version"]),
            versions=tuple(cls.from_dict(older) for older in data["versions"]),
        )
        subject.check_talk()
        # A rank beyond the table is damage, and better found here.
        _ = subject.row, subject.row_before
        return subject

    def check_talk(self) -> None:
        """Refuse turns that lead nowhere or in a circle: a parent comes before its turn.

        Raises:
            ValueError: One of them does.
        """
        seen: set[str | None] = {None}
        for turn in self.turns:
            if turn.parent not in seen:
                raise ValueError(f"{turn.id!r} goes on from {turn.parent!r}, which isn't before it")
            seen.add(turn.id)
        if self.head not in seen:
            raise ValueError(f"the talk stands at {self.head!r}, which isn't there")

    def with_turn(self, turn: SaidTurn) -> Subject:
        """The same with a turn said anew in place of the one of its id.

        Where that stands in the talk, and whether it is stale, are others' to change.
        """
        turns = tuple(
            replace(turn, parent=each.parent, stale=each.stale) if each.id == turn.id else each
            for each in self.turns
        )
        return replace(self, turns=turns)

    def without(self, turn: SaidTurn) -> Subject:
        """The same without a turn; those that go on from it go on from the one before."""
        turns = tuple(
            replace(each, parent=turn.parent) if each.parent == turn.id else each
            for each in self.turns if each.id != turn.id
        )  # fmt: skip
        return replace(self, turns=turns, head=turn.parent if self.head == turn.id else self.head)

    def with_kept(self, turn: SaidTurn, place: int, after: Collection[str]) -> Subject:
        """What `without` took the turn from, but for the head.

        Args:
            turn: To bring back.
            place: Its place among the turns.
            after: Ids of those that went on from it.
        """
        turns = [replace(t, parent=turn.id) if t.id in after else t for t in self.turns]
        return replace(self, turns=(*turns[:place], turn, *turns[place:]))

    def called(self, name: str) -> Subject:
        """The same under another name, its versions too."""
        aoi = None if self.aoi is None else replace(self.aoi, name=name)
        versions = tuple(each.called(name) for each in self.versions)
        return replace(self, name=name, aoi=aoi, versions=versions)

    def edited(self, aoi: AOI) -> Subject:
        """The same with a new geometry, of which nothing is known yet; this one is a version."""
        held = self._all_versions()
        return Subject(
            name=self.name, kind="aoi", aoi=aoi, place=self.place, regions=self.regions,
            version=max(held) + 1, versions=tuple(held[number] for number in sorted(held)),
        )  # fmt: skip

    def at_version(self, version: int, *, drop: bool = False) -> Subject:
        """Another of the versions; the present one becomes one, or is dropped."""
        held = self._all_versions()
        if drop:
            del held[self.version]
        now = held.pop(version)
        return replace(now, versions=tuple(held[number] for number in sorted(held)))

    def _all_versions(self) -> dict[int, Subject]:
        return {each.version: each for each in (*self.versions, replace(self, versions=()))}

    def with_stale(self, ids: frozenset[str], *, stale: bool) -> Subject:
        """The same with the named turns marked, or no longer marked, as of another pair."""
        turns = tuple(replace(t, stale=stale) if t.id in ids else t for t in self.turns)
        return replace(self, turns=turns)


def _kind(value: Any) -> SubjectKind:
    if value not in get_args(SubjectKind):
        raise ValueError(f"no subject is {value!r}")
    kind: SubjectKind = value
    return kind


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something happened in a session; what a face listens to."""

    kind: Literal["changed", "token", "progress", "error"]
    subject: str | None = None
    """Whom it is about; None = the session as a whole."""
    what: str = ""
    """For ``changed``: ``subjects``, ``active``, ``pairs``, ``chip``, ``turns``, ``regions``,
    ``selected`` or ``busy``."""
    ask: str = ""
    """For ``token`` and ``progress``: the id of the task."""
    text: str = ""
    """For ``token``: what was added. For ``progress``: what is being done."""
    message: str = ""
    """For ``error``: the error's text."""
