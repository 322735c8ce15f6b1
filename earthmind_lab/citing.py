"""What to write about an answer: a methods paragraph, references, and whose data it is.

    print(answer.cite())            # all of it
    answer.cite().bibtex            # or a part

Everything comes from the record, and what the record doesn't say is not claimed. A record that
was read from a file, or a turn of a session, gives the same as the answer did.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from earthmind_lab.errors import EarthMindError
from earthmind_lab.methods import inline, listed, methods_of, moment
from earthmind_lab.record import Record
from earthmind_lab.sensors import SENSORS

Citable: TypeAlias = Any
"""A record, its plain data, or what has one under `record`: an answer, a turn, a turn's data."""

COPERNICUS = "Contains modified Copernicus Sentinel data"
_SENTINEL = re.compile(r"sentinel-?\d", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Citation:
    """Text for a methods section, references and acknowledgements."""

    methods: str
    """One paragraph of plain English."""
    bibtex: str
    """Software, model, and each scene with the citation that its catalog asks for."""
    acknowledgements: tuple[str, ...]
    """Sentences: the Copernicus notice where it applies, attributions and licences."""

    def __str__(self) -> str:
        return "\n\n".join(filter(None, (self.methods, *self.acknowledgements, self.bibtex)))


def cite(what: Citable) -> Citation:
    """What to write about an answer.

    Args:
        what: An answer, a turn of a session, a record, or the plain data of one of the last two.

    Raises:
        EarthMindError: It holds no record.
    """
    record = record_of(what)
    try:
        return Citation(
            methods=" ".join(methods_of(record)),
            bibtex="\n\n".join(_entries(record)),
            acknowledgements=tuple(dict.fromkeys(_acknowledgements(record))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise EarthMindError(
            "The record is damaged.", found=f"{type(error).__name__}: {error}"
        ) from error


def record_of(what: Citable) -> Record:
    """The record of an answer, a turn, or plain data.

    Raises:
        EarthMindError: There is none.
    """
    held = what.get("record", what) if isinstance(what, Mapping) else getattr(what, "record", what)
    if isinstance(held, Record):
        return held
    if not isinstance(held, Mapping):
        raise EarthMindError(
            f"There is no record in this {type(what).__name__}.",
            change="an answer, a turn that was answered, or a record",
        )
    return Record.from_dict(dict(held))


# --- references ----------------------------------------------------------------------------------


def _entries(record: Record) -> Iterator[str]:
    """BibTeX entries, each key once."""
    lab, model = record.versions.get("earthmind-lab"), record.model
    software = {"title": "earthmind_lab", "version": lab}
    yield _entry("software", "earthmind_lab", software)
    tuned = f"; adapter {model['adapter']['hash']}" if model.get("adapter") else ""
    yield _entry(
        "misc", f"model_{model['name']}",
        {"title": model["name"], "version": model["revision"],
         "note": f"Weights: SHA-256 {model['weight_hash']}{tuned}. Licence: {model['licence']}"},
    )  # fmt: skip
    seen: set[str] = set()
    for given in record.inputs:
        for item in given.get("items", ()):
            if (key := _key(f"data_{item['id']}")) not in seen:
                seen.add(key)
                yield _entry("misc", key, _item_fields(item, given))


def _item_fields(item: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    observed = _years([given])
    papers = item.get("sci:publications") or ()
    further = [str(each.get("citation") or each.get("doi")) for each in papers]
    licence = given.get("licence")
    notes = [item.get("sci:citation"), *further, f"Licence: {licence}" if licence else None]
    return {
        "title": f"{item['id']}" + (f", {item['collection']}" if item.get("collection") else ""),
        "year": observed[0] if len(observed) == 1 else None,
        "doi": item.get("sci:doi"),
        "howpublished": given.get("attribution"),
        "note": "; ".join(filter(None, notes)),
    }


def _entry(kind: str, key: str, fields: Mapping[str, Any]) -> str:
    lines = [f"  {name} = {{{_tex(value)}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{_key(key)},", *lines, "}"])


def _key(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def _tex(value: Any) -> str:
    """Text of a catalog as TeX prints it: no command, no open brace."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {char: f"\\{char}" for char in "{}%&#_$"}
    return "".join(special.get(char, char) for char in inline(value))


# --- whose data ----------------------------------------------------------------------------------


def _acknowledgements(record: Record) -> Iterator[str]:
    sentinel = [given for given in record.inputs if _is_sentinel(given)]
    if sentinel:
        years = _years(sentinel)
        yield f"{COPERNICUS}{f' {listed(map(str, years))}' if years else ''}."
    for given in record.inputs:
        parts = [
            f"attribution: {given['attribution']}" if given.get("attribution") else None,
            f"licence: {given['licence']}" if given.get("licence") else None,
        ]
        if any(parts):
            yield f"{given.get('id', 'The picture')}: {inline('; '.join(filter(None, parts)))}."
    if record.model.get("licence"):
        yield f"Model {record.model['name']}: licence: {inline(record.model['licence'])}."


def _is_sentinel(given: Mapping[str, Any]) -> bool:
    """Whether a Sentinel of the Copernicus programme took it, also where others processed it."""
    known = SENSORS.get(str(given.get("sensor")))
    names = [given.get("platform"), known and known.title]
    names += [
        item.get(key) for item in given.get("items", ()) for key in ("platform", "constellation")
    ]
    return any(_SENTINEL.search(str(name or "")) for name in names)


def _years(inputs: Iterable[Mapping[str, Any]]) -> list[int]:
    times = [moment(part) for given in inputs for part in str(given.get("observed")).split("/")]
    return sorted({time.year for time in times if time is not None})
