"""An answer of a session as Python that gives it again: search, load, regions, questions, options.

    code = as_python(session.subject(), turn.id)

The code stands by itself. Whatever a catalog, a model or a user wrote goes into it as a literal:
no text can become code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pprint import pformat
from typing import TYPE_CHECKING, Any, NamedTuple

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import PromptError
from earthmind_lab.record_parts import BEFORE
from earthmind_lab.recording import plain

if TYPE_CHECKING:
    from earthmind_lab.session.subject import SaidTurn, Subject

_WIDTH = 88
_NOT_ASKED = ("rank", "catalog", "ids", "pair", "overrides", BEFORE)
"""Of a record's search: what came of it, and what is written apart from the rest."""
_EMBEDDED = "earthmind-nano"


class Steps(NamedTuple):
    """What leads to an answer, as code: pixels, then a talk about them."""

    pixels: tuple[str, ...]
    """Lines that make ``chip``; none for a plain picture."""
    shapes: tuple[str, ...]
    """Of the marked regions, a literal each; the first is ``region1``."""
    talk: str
    """The line that begins the talk."""
    asked: tuple[SaidTurn, ...]
    """The turns to ask, oldest first; the last is the answer's own."""

    def regions(self, first: int = 1) -> list[str]:
        """Lines that make the regions from a number on."""
        held = enumerate(self.shapes, start=1)
        return [f"{_region(n)} = shape({text})" for n, text in held if n >= first]

    def ask(self, turn: SaidTurn, *, answer: bool) -> str:
        """The line that asks one of the turns.

        Args:
            turn: One of `asked`.
            answer: Whether what comes of it gets the name ``answer``.
        """
        return _ask(turn, self.shapes, last=answer)


def as_python(subject: Subject, ident: str) -> str:
    """Code that asks again what led to an answer; it ends with the name ``answer``.

    Args:
        subject: Whom the answer is about.
        ident: Id of its turn. The questions before it that the model had read are asked, too.

    Returns:
        Lines of Python that need `earthmind_lab` alone.

    Raises:
        PromptError: No answer, or the code would give another one: regions were given as masks,
            pixels can't be had again, questions before it are gone. `asked` has no words of others.
    """
    steps = steps_to(subject, ident)
    lines = ["import earthmind_lab as em"]
    if steps.shapes:
        lines += ["from shapely.geometry import shape"]
    lines += ["", *steps.pixels, "", *steps.regions(), steps.talk]
    lines += [steps.ask(each, answer=each is steps.asked[-1]) for each in steps.asked]
    return "\n".join([*lines, "print(answer.text)"]) + "\n"


def steps_to(subject: Subject, ident: str) -> Steps:
    """The parts of `as_python`.

    Raises:
        PromptError: As `as_python`.
    """
    turn = subject.turn(ident)
    if turn is None or turn.record is None:
        raise PromptError(
            "Only an answer can be copied as Python.", change="ask again, and let it be answered"
        )
    asked = _asked(subject, turn)
    dates = []
    if turn.before is not None:
        dates = ["before=before", f"sensor={_text(turn.before['sensor'])}"]
    return Steps(
        pixels=tuple(_pixels(turn)),
        shapes=tuple(dict.fromkeys(_text(shape) for each in asked for shape in _shapes(each))),
        talk=_call("talk = em.Conversation", _about(subject), _engine(turn.record), *dates),
        asked=tuple(asked),
    )


def _asked(subject: Subject, turn: SaidTurn) -> list[SaidTurn]:
    """The turns whose replies the model read before its answer, and the turn, oldest first."""
    earlier = list(subject.talk_to(turn.id))[:-1]
    found = [turn]
    for read in reversed(_history(turn)):
        while earlier:
            each = earlier.pop()
            if (each.question, each.raw) == read and _hashes(each) == _hashes(turn):
                found.insert(0, each)
                break
        else:
            raise _gone(read[0])
    for number, each in enumerate(found):
        # Asked anew, each reads what was asked before it, so it must have read that then, too.
        if _history(each) != [(before.question, before.raw) for before in found[:number]]:
            raise _gone(each.question)
    return found


def _history(turn: SaidTurn) -> list[tuple[str, str]]:
    """Questions and replies that the model had read."""
    read = (turn.record or {}).get("prompt", {}).get("history", ())
    return [(each["question"], each["reply"]) for each in read]


def _hashes(turn: SaidTurn) -> list[Any]:
    """Of the pixels that a turn is about."""
    chip = (turn.record or {}).get("chip", {})
    return [about.get("pixel_hash") for about in (chip, chip.get(BEFORE, {}))]


def _gone(question: str) -> PromptError:
    return PromptError(
        "A question before this one is no longer there as the model had read it, so the code would "
        "ask others.",
        found=repr(question),
        change="ask again, then copy that answer",
    )


def _pixels(turn: SaidTurn) -> list[str]:
    """The lines that make ``chip``, and of two dates ``before``; none for a plain picture."""
    record = turn.record or {}
    area = record.get("aoi")
    if area is None:
        return []
    chip, search = record["chip"], record["search"]
    lines = [_area(area)]
    if own_files(chip) is not None:
        lines += _opened("chip", chip)
    else:
        lines += [*_searched(turn, search), *_pair("pair", search), *_loaded(turn, chip)]
    if BEFORE not in chip:
        return lines
    early, sought = chip[BEFORE], search[BEFORE]
    if own_files(early) is not None:
        return [*lines, *_opened("before", early)]
    once = own_files(chip) is None and _terms(search) == _terms(sought)
    again = [] if once else _searched(turn, sought)
    return [*lines, *again, *_pair("earlier", sought), *_earlier(turn, early)]


def own_files(chip: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Arguments of `open_chip` where pixels come from own files.

    Args:
        chip: Of a record, or its part of the earlier date.
    """
    found: Mapping[str, Any] | None = chip.get("provenance", {}).get("own_files")
    return found


def _opened(name: str, chip: Mapping[str, Any]) -> list[str]:
    if chip["provenance"].get("from_memory"):
        raise PromptError(
            "Its pixels were arrays in memory, which no code can open again.",
            change="save them as files, then open_chip() with their paths",
        )
    said = [f"{key}={_text(value)}" for key, value in (own_files(chip) or {}).items()]
    return [_call(f"{name} = em.open_chip", *said, "aoi=aoi", f"gsd={_text(chip.get('gsd'))}")]


def _searched(turn: SaidTurn, search: Mapping[str, Any]) -> list[str]:
    """The line that makes ``pairs``."""
    if turn.kept and ("dates" not in search or len(search["catalog"]) not in (1, 2)):
        raise PromptError(
            "Its pixels come from no search of a catalog, so no code can find them.",
            change="search_pairs(), then load_chip() with one of its pairs",
        )
    named = [f"{key}={_text(value)}" for key, value in _terms(search).items()]
    return [_call("pairs = em.search_pairs", "aoi", *named)]


def _terms(search: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a search."""
    terms = {key: value for key, value in search.items() if key not in _NOT_ASKED}
    return {**terms, "catalog": _catalog(search), **search.get("overrides", {})}


def _loaded(turn: SaidTurn, chip: Mapping[str, Any]) -> list[str]:
    """The lines that make ``chip`` of ``pair``.

    A session loads with the defaults; what was kept may lie on any grid.
    """
    if not turn.kept:
        return ["chip = em.load_chip(pair, aoi)"]
    return [
        "from earthmind_lab.grid import grid_of",
        "",
        _call("grid = grid_of", _text(chip["grid"])),
        _call("plan = em.plan_chip", "pair", "aoi", _bands(chip), "grid=grid"),
        _call("chip = em.load_chip", "pair", "aoi", "plan=plan", *_speckle(chip)),
    ]


def _earlier(turn: SaidTurn, chip: Mapping[str, Any]) -> list[str]:
    """The lines that make ``before`` of ``earlier``, on the grid of ``chip``."""
    bands = _bands(chip) if turn.kept else "bands=chip.bands or None"
    return [
        _call("plan = em.plan_chip", "earlier", "aoi", bands, "grid=chip.grid"),
        _call("before = em.load_chip", "earlier", "aoi", "plan=plan", *_speckle(chip)),
    ]


def _bands(chip: Mapping[str, Any]) -> str:
    return f"bands={_text(chip['bands'] or None)}"


def _speckle(chip: Mapping[str, Any]) -> list[str]:
    """How its SAR pixels were filtered."""
    filtered = chip.get("provenance", {}).get("speckle")
    return [f"speckle={_text(filtered)}"] if filtered else []


def _pair(name: str, search: Mapping[str, Any]) -> list[str]:
    """The lines that find a pair among those of a search."""
    ids = [each for each in (search["pair"]["optical"], search["pair"]["sar"]) if each]
    return [
        f"ids = {_text(ids)}",
        f"{name} = next(pair for pair in pairs if [scene.id for scene in pair.scenes] == ids)",
    ]


def _area(area: Mapping[str, Any]) -> str:
    """The AOI, as a box where it is one."""
    name, geometry = str(area["name"]), area["geometry"]
    aoi = AOI.from_geojson(geometry, name=name)
    boxed = AOI.from_bbox(*aoi.bounds, name=name)
    if plain(boxed.to_dict())["geometry"] == geometry:
        corners = [_text(corner) for corner in aoi.bounds]
        return _call("aoi = em.AOI.from_bbox", *corners, f"name={_text(name)}")
    return _call("aoi = em.AOI.from_geojson", _text(geometry), f"name={_text(name)}")


def _catalog(search: Mapping[str, Any]) -> Any:
    """As `search_pairs` takes it: a pair of two catalogs names that of the optical scene first."""
    names = list(search["catalog"])
    if len(names) == 2:
        return dict(zip(("optical", "sar"), names, strict=True))
    return names[0] if len(names) == 1 else None


def _about(subject: Subject) -> str:
    return "chip" if subject.picture is None else _text(subject.picture)


def _engine(record: Mapping[str, Any]) -> str:
    """Who answers: the embedded model, or the one of that name."""
    name = str(record.get("model", {}).get("name", ""))
    return "em.load_engine()" if name in ("", _EMBEDDED) else f"em.load_engine({_text(name)})"


def _ask(turn: SaidTurn, marked: Sequence[str], *, last: bool) -> str:
    parts = [_text(turn.question)]
    regions = [_region(marked.index(_text(shape)) + 1) for shape in _shapes(turn)]
    if regions:
        parts += [f"regions=[{', '.join(regions)}]"]
    options = {key: value for key, value in turn.options.items() if key != "deadline"}
    adapter = (turn.record or {}).get("model", {}).get("adapter")
    if adapter:
        options["adapter"] = adapter["hash"]
    if options:
        named = ", ".join(f"{key}={_text(value)}" for key, value in options.items())
        parts += [f"options=em.Options({named})"]
    return _call("answer = talk.ask" if last else "talk.ask", *parts)


def _shapes(turn: SaidTurn) -> list[Mapping[str, Any]]:
    shapes = [shape for shape in turn.regions if shape is not None]
    if len(shapes) < len(turn.regions):
        raise PromptError(
            "Regions were given as masks, which aren't kept.",
            found=repr(turn.question),
            change="polygons in lon/lat as regions",
        )
    return shapes


def _region(number: int) -> str:
    return f"region{number}"


def _text(value: Any) -> str:
    """A literal."""
    return pformat(plain(value), width=_WIDTH, compact=True, sort_dicts=False)


def _call(name: str, *parts: str) -> str:
    """A call on one line where it fits, else a line for each argument."""
    line = f"{name}({', '.join(parts)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    indented = [part.replace("\n", "\n    ") for part in parts]
    return f"{name}(\n    " + ",\n    ".join(indented) + ",\n)"
