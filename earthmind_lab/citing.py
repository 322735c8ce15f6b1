"""What to write about an answer: a methods paragraph, references, and whose data it is.

    print(answer.cite())            # all of it
    answer.cite().bibtex            # or a part

Everything comes from the record, and what the record doesn't say is not claimed. A record that
was read from a file, or a turn of a session, gives the same as the answer did.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from earthmind_lab.errors import EarthMindError
from earthmind_lab.record import Record
from earthmind_lab.sensors import SENSORS

Citable: TypeAlias = Any
"""A record, its plain data, or what has one under `record`: an answer, a turn, a turn's data."""

COPERNICUS = "Contains modified Copernicus Sentinel data"
_SENTINEL = re.compile(r"sentinel-?\d", re.IGNORECASE)
_LEVELS = {
    "SR": "surface reflectance", "TOA": "top-of-atmosphere reflectance", "DN": "brightness",
}  # fmt: skip
_QUANTITIES = {
    "sigma0": "sigma nought", "gamma0": "gamma nought",
    "gamma0_rtc": "radiometrically terrain-corrected gamma nought",
}  # fmt: skip
_UNKNOWN_BASELINES = ("", "99.99")
"""Of reprocessed archives: no statement."""
_MONTHS = (
    "January February March April May June July August September October November December"
).split()


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
            methods=" ".join(_methods(record)),
            bibtex="\n\n".join(_entries(record)),
            acknowledgements=tuple(_acknowledgements(record)),
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


def day_words(observed: str) -> str:
    """A time of a record for people; an interval where only that is known.

    >>> day_words("2019-09-17T00:00:00Z/2019-09-17T23:59:59Z"), day_words("2020-06-01T10:56:02Z")
    ('on 17 September 2019', 'on 1 June 2020 at 10:56 UTC')
    """
    times = [_time(part) for part in str(observed).split("/")]
    known = [time for time in times if time is not None]
    if not known:
        return "at an unknown time"
    days = list(dict.fromkeys(f"{t.day} {_MONTHS[t.month - 1]} {t.year}" for t in known))
    if len(known) == 1:
        return f"on {days[0]} at {known[0]:%H:%M} UTC"
    return f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[1]}"


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


# --- methods -------------------------------------------------------------------------------------


def _methods(record: Record) -> Iterator[str]:
    """Sentences."""
    for given in record.inputs:
        yield _input_sentence(given, record)
    if record.aoi is not None:
        yield from _place_sentences(record)
    yield from _model_sentences(record)
    yield from _answer_sentences(record)


def _input_sentence(given: Mapping[str, Any], record: Record) -> str:
    if "modality" not in given:
        return (
            f"The input was a plain picture without georeference (SHA-256 {given.get('sha256')})."
        )
    radiometry = record.chip.get("radiometry") or {}
    optical = given["modality"] == "optical"
    kind = _LEVELS.get(str(radiometry.get("level"))) if optical else None
    if not optical and radiometry.get("quantity"):
        kind = f"{_QUANTITIES.get(radiometry['quantity'], radiometry['quantity'])} in dB"
    orbit, processing = given.get("orbit") or {}, given.get("processing") or {}
    sensor = SENSORS[given["sensor"]].title if given["sensor"] in SENSORS else given["sensor"]
    baseline = str(processing.get("baseline") or "")
    facts = [
        kind,
        f"platform {given['platform']}" if given.get("platform") else None,
        f"processing level {processing['level']}" if processing.get("level") else None,
        f"processing baseline {baseline}" if baseline not in _UNKNOWN_BASELINES else None,
        f"{orbit['state']} orbit" if orbit.get("state") else None,
        f"relative orbit {orbit['relative']}" if orbit.get("relative") is not None else None,
        f"collection {given['collection']}" if given.get("collection") else None,
    ]
    about = ", ".join(filter(None, facts))
    kind_word = "optical" if optical else "SAR"
    return (
        f"The {kind_word} input was the {sensor} scene {given['id']}, observed "
        f"{day_words(given['observed'])}{f' ({about})' if about else ''}."
    )


def _place_sentences(record: Record) -> Iterator[str]:
    search, chip, grid = record.search, record.chip, record.chip["grid"]
    gap = (search.get("pair") or {}).get("gap_hours")
    if isinstance(gap, list):
        yield (
            f"SAR was observed {gap[0]:g} to {gap[1]:g} h after the optical scene (negative: "
            "before it), as far as the times are known."
        )
    elif gap is not None:
        side = "before" if gap < 0 else "after"
        yield f"SAR was observed {abs(gap):g} h {side} the optical scene."
    if search.get("dates"):
        yield _search_sentence(search)
    for verb, name in (("pinned", "pin"), ("excluded", "exclude")):
        if ids := (search.get("overrides") or {}).get(name):
            yield f"The analyst {verb} {_listed(ids)}."
    kernels = _listed(
        sorted({str(each) for each in chip["provenance"].get("resampling", {}).values()})
    )
    rows, columns = grid["shape"]
    said = f" (resampling: {kernels})" if kernels else ""
    yield (
        f"All pixels lie on one grid of {columns} x {rows} px of {chip['gsd']:g} m in "
        f"{grid['crs']}{said}."
    )
    if chip.get("cloud_method") not in (None, "unknown"):
        yield f"Cloud inside the area of interest was told by: {chip['cloud_method']}."


def _search_sentence(search: Mapping[str, Any]) -> str:
    """What was searched for; records of format 1 say less, or in other words."""
    sensors, catalogs = search.get("sensors") or (), search.get("catalog") or ()
    sensors = sensors.split(",") if isinstance(sensors, str) else sensors
    catalogs = [catalogs] if isinstance(catalogs, str) else catalogs
    most = search.get("max_cloud")
    limits = [
        f"sensors {_listed(sensors)}" if sensors else None,
        f"longest gap {search['max_gap']}" if search.get("max_gap") else None,
        None if most is None else f"at most {most:g} % cloud inside the area of interest",
        f"purpose {search['purpose']}" if search.get("purpose") else None,
    ]
    rank = f" (rank {search['rank']})" if search.get("rank") else ""
    near = f", near {search['around']}" if search.get("around") else ""
    return (
        f"The scenes come from a search{rank} of {_listed(catalogs) or 'a catalog'} from "
        f"{str(search['dates']).replace('/', ' to ')}{near} ({'; '.join(filter(None, limits))})."
    )


def _model_sentences(record: Record) -> Iterator[str]:
    model, options = record.model, record.options
    tuned = model.get("adapter")
    adapter = f" with the adapter {tuned['name']} (SHA-256 {tuned['hash']})" if tuned else ""
    views = _listed(view["name"] for view in record.prompt.get("views", ()))
    greedy = not options.get("temperature")
    how = "greedy decoding" if greedy else (
        f"temperature {options['temperature']:g}, seed {options.get('seed')}"
    )  # fmt: skip
    yield (
        f"The model {model['name']}, revision {model['revision']} (SHA-256 of its weights "
        f"{model['weight_hash']}){adapter}, was shown {views or 'no view'} and answered with {how} "
        f"in {model['dtype']} on {model['device']}."
    )
    before, marked = len(record.prompt.get("history", ())), len(record.prompt.get("regions", ()))
    after = (
        f", after {before} earlier turn{'s' * (before > 1)} of the conversation" if before else ""
    )
    beside = f", with {marked} region{'s' * (marked > 1)} marked" if marked else ""
    asked, said = _inline(record.question), _inline(record.text)
    yield f'It was asked "{asked}"{after}{beside}, and said "{said}"'
    if model.get("notice"):
        yield f"About the model: {_inline(model['notice']).rstrip('.')}."


def _answer_sentences(record: Record) -> Iterator[str]:
    masks = len(record.model.get("mask_hashes", ()))
    if masks and record.aoi is not None:
        yield (
            f"It marked {masks} mask{'s' * (masks > 1)}, cut to the observed pixels whose centres "
            "lie inside the area of interest. Areas are mapped areas: the geodesic area of the "
            "mask's pixels, not a statistical estimate of the area on the ground."
        )
    verdicts = [str(claim["verdict"]) for claim in record.evidence]
    if verdicts:
        counts = [f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts)]
        yield f"Verdicts on {len(verdicts)} statements compared with masks: {_listed(counts)}."
    lab = record.versions.get("earthmind-lab")
    yield f"Made with earthmind_lab{f' {lab}' if lab else ''}; answer hash {record.answer_hash}."


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
    return "".join(special.get(char, char) for char in _inline(value))


# --- whose data ----------------------------------------------------------------------------------


def _acknowledgements(record: Record) -> Iterator[str]:
    sentinel = [given for given in record.inputs if _is_sentinel(given)]
    if sentinel:
        years = _years(sentinel)
        yield f"{COPERNICUS}{f' {_listed(map(str, years))}' if years else ''}."
    for given in record.inputs:
        parts = [
            f"attribution: {given['attribution']}" if given.get("attribution") else None,
            f"licence: {given['licence']}" if given.get("licence") else None,
        ]
        if any(parts):
            yield f"{given.get('id', 'The picture')}: {_inline('; '.join(filter(None, parts)))}."
    if record.model.get("licence"):
        yield f"Model {record.model['name']}: licence: {_inline(record.model['licence'])}."


def _is_sentinel(given: Mapping[str, Any]) -> bool:
    """Whether a Sentinel of the Copernicus programme took it, also where others processed it."""
    known = SENSORS.get(str(given.get("sensor")))
    names = [given.get("platform"), known and known.title]
    names += [
        item.get(key) for item in given.get("items", ()) for key in ("platform", "constellation")
    ]
    return any(_SENTINEL.search(str(name or "")) for name in names)


def _years(inputs: Iterable[Mapping[str, Any]]) -> list[int]:
    times = [_time(part) for given in inputs for part in str(given.get("observed")).split("/")]
    return sorted({time.year for time in times if time is not None})


def _listed(words: Iterable[Any]) -> str:
    """``a, b and c``."""
    parts: Sequence[str] = [_inline(word) for word in words]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _inline(text: Any) -> str:
    """Text of a model or a catalog on one line, no control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
