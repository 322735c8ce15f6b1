"""What a session holds, as values: subjects, ranked pairs, turns, notes.

All but the notes go to JSON and back, so that they survive a restart.

>>> turn = SaidTurn(id="ask-1", question="Is there water?", state="done", text="Yes.")
>>> SaidTurn.from_dict(turn.to_dict()) == turn
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from earthmind_lab.aoi import AOI
from earthmind_lab.recording import plain

Busy: TypeAlias = Literal["search", "load", "ask"]


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

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "evidence": list(self.evidence)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SaidTurn:
        """What `to_dict` gave."""
        return cls(**{**data, "evidence": tuple(data["evidence"])})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What one conversation is about: an AOI with its search and pair, or a plain picture."""

    name: str
    kind: Literal["aoi", "picture"]
    aoi: AOI | None = None
    """None for a picture."""
    place: str | None = None
    """The sample place it came from."""
    picture: str | None = None
    """Path of a plain picture; None for an AOI."""
    query: Mapping[str, Any] | None = None
    """The search's arguments: ``dates``, ``sensors``, ``max_gap``, ``max_cloud``, ``catalog``."""
    pairs: tuple[PairRow, ...] | None = None
    """Best first; None = not searched."""
    chosen: int | None = None
    """Rank of the pair that is (to be) loaded, 0 = best."""
    turns: tuple[SaidTurn, ...] = ()
    """The talk, oldest first."""
    busy: Busy | None = None
    """What runs now. Only in snapshots of a session: no command ever stores it."""

    @property
    def row(self) -> PairRow | None:
        """The pair that is (to be) loaded."""
        return None if self.chosen is None or self.pairs is None else self.pairs[self.chosen]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all that a restart needs."""
        return {
            "name": self.name,
            "kind": self.kind,
            # Coordinates in full: an AOI comes back as exactly the one that was searched.
            "aoi": plain(self.aoi.to_dict()) if self.aoi else None,
            "place": self.place,
            "picture": self.picture,
            "query": dict(self.query) if self.query is not None else None,
            "pairs": None if self.pairs is None else [row.to_dict() for row in self.pairs],
            "chosen": self.chosen,
            "turns": [turn.to_dict() for turn in self.turns],
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
            kind="picture" if data["kind"] == "picture" else "aoi",
            aoi=AOI.from_geojson(aoi["geometry"], name=str(aoi["name"])) if aoi else None,
            place=data["place"],
            picture=data["picture"],
            query=data["query"],
            pairs=None if pairs is None else tuple(PairRow.from_dict(row) for row in pairs),
            chosen=data["chosen"],
            turns=tuple(SaidTurn.from_dict(turn) for turn in data["turns"]),
        )
        _ = subject.row  # a rank beyond the table is damage, and better found here
        return subject

    def with_stale(self, ids: frozenset[str], *, stale: bool) -> Subject:
        """The same with the named turns marked, or no longer marked, as of another pair."""
        turns = tuple(replace(t, stale=stale) if t.id in ids else t for t in self.turns)
        return replace(self, turns=turns)


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something happened in a session; what a face listens to."""

    kind: Literal["changed", "token", "progress", "error"]
    subject: str | None = None
    """Whom it is about; None = the session as a whole."""
    what: str = ""
    """For ``changed``: ``subjects``, ``active``, ``pairs``, ``chip``, ``turns`` or ``busy``."""
    ask: str = ""
    """For ``token`` and ``progress``: the id of the task."""
    text: str = ""
    """For ``token``: what was added. For ``progress``: what is being done."""
    message: str = ""
    """For ``error``: the error's text."""
