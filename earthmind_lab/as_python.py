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
        PromptError: No answer, or its regions were given as masks.
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
        pixels=tuple(_pixels(turn.record)),
        shapes=tuple(dict.fromkeys(_text(shape) for each in asked for shape in _shapes(each))),
        talk=_call("talk = em.Conversation", _about(subject), _engine(turn.record), *dates),
        asked=tuple(asked),
    )


def _asked(subject: Subject, turn: SaidTurn) -> list[SaidTurn]:
    """The turns whose replies the model read before its answer, and the turn, oldest first."""
    assert turn.record is not None
    earlier = list(subject.talk_to(turn.id))[:-1]
    found = [turn]
    for read in reversed(turn.record.get("prompt", {}).get("history", ())):
        while earlier:
            each = earlier.pop()
            if (each.question, each.raw) == (read["question"], read["reply"]):
                found.insert(0, each)
                break
        else:
            raise PromptError(
                "A question before this one is no longer there, so the code would ask others.",
                found=repr(read["question"]),
                change="ask again, then copy that answer",
            )
    return found


def _pixels(record: Mapping[str, Any]) -> list[str]:
    """The lines that make ``chip``; none for a plain picture."""
    area = record.get("aoi")
    if area is None:
        return []
    files = record["chip"].get("provenance", {}).get("own_files")
    if files is not None:
        said = [f"{key}={_text(value)}" for key, value in files.items()]
        gsd = f"gsd={_text(record['chip'].get('gsd'))}"
        return [_area(area), _call("chip = em.open_chip", *said, "aoi=aoi", gsd)]
    search = record["search"]
    terms = {key: value for key, value in search.items() if key not in _NOT_ASKED}
    terms = {**terms, "catalog": _catalog(search), **search.get("overrides", {})}
    named = [f"{key}={_text(value)}" for key, value in terms.items()]
    return [
        _area(area),
        _call("pairs = em.search_pairs", "aoi", *named),
        *_pair("pair", search),
        "chip = em.load_chip(pair, aoi)",
        *([] if BEFORE not in search else _earlier(search[BEFORE])),
    ]


def _pair(name: str, search: Mapping[str, Any]) -> list[str]:
    """The lines that find a pair among those of a search."""
    ids = [each for each in (search["pair"]["optical"], search["pair"]["sar"]) if each]
    return [
        f"ids = {_text(ids)}",
        f"{name} = next(pair for pair in pairs if [scene.id for scene in pair.scenes] == ids)",
    ]


def _earlier(search: Mapping[str, Any]) -> list[str]:
    """The lines that make ``before``, on the grid of ``chip``; both dates are of one search."""
    return [
        *_pair("earlier", search),
        "plan = em.plan_chip(earlier, aoi, bands=chip.bands or None, grid=chip.grid)",
        "before = em.load_chip(earlier, aoi, plan=plan)",
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
            f"The regions of {turn.question!r} were given as masks, which aren't kept.",
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
