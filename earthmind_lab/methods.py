"""A methods paragraph in sentences, and the words for times and sensors that go with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from earthmind_lab.record import Record
from earthmind_lab.record_parts import AFTER, BEFORE, inputs_seen, record_of_date
from earthmind_lab.sensors import MODALITY_WORDS, SENSORS

_LEVELS = {
    "SR": "surface reflectance", "TOA": "top-of-atmosphere reflectance", "DN": "brightness",
}  # fmt: skip
_QUANTITIES = {
    "sigma0": "sigma nought", "gamma0": "gamma nought",
    "gamma0_rtc": "radiometrically terrain-corrected gamma nought",
}  # fmt: skip
_TERMS = ("sensors", "catalog", "dates", "around", "max_gap", "max_cloud", "purpose")
"""Of a search: what its sentence says."""
_UNKNOWN_BASELINES = ("", "99.99")
"""Of reprocessed archives: no statement."""
_MONTHS = (
    "January February March April May June July August September October November December"
).split()


def methods_of(record: Record) -> Iterator[str]:
    """The sentences of a methods paragraph.

    Args:
        record: Of the answer.
    """
    two = BEFORE in record.chip
    seen = inputs_seen(record)
    for given in seen if two else record.inputs:
        part = record_of_date(record, given["date"]) if two else record
        yield _input_sentence(given, part, shown=given in seen)
    if two:
        yield from _comparison_sentences(record)
    if record.aoi is not None:
        yield from _place_sentences(record)
    yield from _model_sentences(record)
    yield from _answer_sentences(record)


def _input_sentence(given: Mapping[str, Any], record: Record, *, shown: bool) -> str:
    """One scene.

    Args:
        given: One of the record's inputs.
        record: Of one date.
        shown: Whether the model saw it.
    """
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
    baseline = str(processing.get("baseline") or "")
    own = record.search.get("catalog") == []
    sums = {str(read["sha256"]) for read in given.get("reads", ()) if read.get("sha256")}
    facts = [
        sensor_words(given) if own else None,
        f"SHA-256 {listed(sorted(sums))}" if own and sums else None,
        kind,
        f"platform {given['platform']}" if given.get("platform") else None,
        f"processing level {processing['level']}" if processing.get("level") else None,
        f"processing baseline {baseline}" if baseline not in _UNKNOWN_BASELINES else None,
        f"{orbit['state']} orbit" if orbit.get("state") else None,
        f"relative orbit {orbit['relative']}" if orbit.get("relative") is not None else None,
        f"collection {given['collection']}" if given.get("collection") else None,
    ]
    about = ", ".join(filter(None, facts))
    date = {BEFORE: "earlier ", AFTER: "later "}.get(given.get("date", ""), "")
    source = "analyst's own file" if own else f"{sensor_words(given)} scene"
    return (
        f"The {date}{MODALITY_WORDS[given['modality']]} input was the {source} {given['id']}, "
        f"observed {day_words(given['observed'])}{f' ({about})' if about else ''}"
        f"{'' if shown else '; the model was not shown it'}."
    )


def _comparison_sentences(record: Record) -> Iterator[str]:
    sensor = MODALITY_WORDS[record.prompt["views"][0]["modality"]]
    yield (
        f"The two dates were compared by {sensor} pictures alone: the model was shown one of each, "
        "the earlier one first, on one grid and in one stretch, and each date has masks of its own."
    )


def _place_sentences(record: Record) -> Iterator[str]:
    dates = (BEFORE, AFTER) if BEFORE in record.chip else ()
    parts = [record_of_date(record, date) for date in dates] or [record]
    searches, chips = [part.search for part in parts], [part.chip for part in parts]
    seen = {given.get("modality") for given in inputs_seen(record)}
    if len(seen) > 1:
        yield from _gap_sentences((record.search.get("pair") or {}).get("gap_hours"))
    yield from _search_sentences([search for search in searches if search.get("dates")])
    for verb, name in (("pinned", "pin"), ("excluded", "exclude")):
        ids = [
            each for search in searches for each in (search.get("overrides") or {}).get(name, ())
        ]
        if ids:
            yield f"The analyst {verb} {listed(dict.fromkeys(ids))}."
    kernels = listed(sorted(
        {str(each) for chip in chips for each in chip["provenance"].get("resampling", {}).values()}
    ))  # fmt: skip
    chip, grid = record.chip, record.chip["grid"]
    rows, columns = grid["shape"]
    said = f" (resampling: {kernels})" if kernels else ""
    yield (
        f"All pixels lie on one grid of {columns} x {rows} px of {chip['gsd']:g} m in "
        f"{grid['crs']}{said}."
    )
    clouds = [each.get("cloud_method") for each in chips] if "optical" in seen else []
    if told := listed(dict.fromkeys(each for each in clouds if each not in (None, "unknown"))):
        yield f"Cloud inside the area of interest was told by: {told}."


def _gap_sentences(gap: Any) -> Iterator[str]:
    if isinstance(gap, list):
        yield (
            f"SAR was observed {gap[0]:g} to {gap[1]:g} h after the optical scene (negative: "
            "before it), as far as the times are known."
        )
    elif gap is not None:
        side = "before" if gap < 0 else "after"
        yield f"SAR was observed {abs(gap):g} h {side} the optical scene."


def _search_sentences(searches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One for both dates where one search found them."""
    ranks: dict[str, list[Any]] = {}
    for search in searches:
        terms = {key: value for key, value in search.items() if key in _TERMS}
        ranks.setdefault(json.dumps(terms), []).append(search.get("rank"))
    for terms_, found in ranks.items():
        yield _search_sentence(json.loads(terms_), list(filter(None, found)))


def _search_sentence(search: Mapping[str, Any], ranks: Sequence[Any]) -> str:
    """What was searched for; records of format 1 say less, or in other words."""
    sensors, catalogs = search.get("sensors") or (), search.get("catalog") or ()
    sensors = sensors.split(",") if isinstance(sensors, str) else sensors
    catalogs = [catalogs] if isinstance(catalogs, str) else catalogs
    most = search.get("max_cloud")
    limits = [
        f"sensors {listed(sensors)}" if sensors else None,
        f"longest gap {search['max_gap']}" if search.get("max_gap") else None,
        None if most is None else f"at most {most:g} % cloud inside the area of interest",
        f"purpose {search['purpose']}" if search.get("purpose") else None,
    ]
    rank = f" (rank{'s' * (len(ranks) > 1)} {listed(ranks)})" if ranks else ""
    near = f", near {search['around']}" if search.get("around") else ""
    return (
        f"The scenes come from a search{rank} of {listed(catalogs) or 'a catalog'} from "
        f"{str(search['dates']).replace('/', ' to ')}{near} ({'; '.join(filter(None, limits))})."
    )


def _model_sentences(record: Record) -> Iterator[str]:
    model, options = record.model, record.options
    tuned = model.get("adapter")
    adapter = f" with the adapter {tuned['name']} (SHA-256 {tuned['hash']})" if tuned else ""
    off = options.get("sensor_off")
    names = [
        v["name"] for v in record.prompt.get("views", ()) if off is None or v["modality"] != off
    ]
    views = listed(dict.fromkeys(names)) + " of each date" * (BEFORE in record.chip)
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
    asked, said = inline(record.question), inline(record.text)
    yield f'It was asked "{asked}"{after}{beside}, and said "{said}"'
    if model.get("notice"):
        yield f"About the model: {inline(model['notice']).rstrip('.')}."


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
        statements = f"{len(verdicts)} statement{'s' * (len(verdicts) > 1)}"
        yield f"Verdicts on {statements} compared with masks: {listed(counts)}."
    lab = record.versions.get("earthmind-lab")
    yield f"Made with earthmind_lab{f' {lab}' if lab else ''}; answer hash {record.answer_hash}."


# --- words ---------------------------------------------------------------------------------------


def day_words(observed: str) -> str:
    """A time of a record for people; an interval where only that is known.

    >>> day_words("2019-09-17T00:00:00Z/2019-09-17T23:59:59Z"), day_words("2020-06-01T10:56:02Z")
    ('on 17 September 2019', 'on 1 June 2020 at 10:56 UTC')
    """
    times = [moment(part) for part in str(observed).split("/")]
    known = [time for time in times if time is not None]
    if not known:
        return "at an unknown time"
    days = list(dict.fromkeys(f"{t.day} {_MONTHS[t.month - 1]} {t.year}" for t in known))
    if len(known) == 1:
        return f"on {days[0]} at {known[0]:%H:%M} UTC"
    return f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[1]}"


def sensor_words(given: Mapping[str, Any]) -> str:
    """What took an input of a record, for people."""
    sensor = str(given.get("sensor", "picture"))
    return SENSORS[sensor].title if sensor in SENSORS else sensor


def moment(text: str) -> datetime | None:
    """An instant of a record; None for what is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def listed(words: Iterable[Any]) -> str:
    """``a, b and c``."""
    parts: Sequence[str] = [inline(word) for word in words]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def inline(text: Any) -> str:
    """Text of a model or a catalog on one line, no control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
