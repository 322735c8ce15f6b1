"""The command line: ``earthmind search | chip | ask | replay | cache | convert | …``.

Each verb calls one public function. With ``--json`` exactly one JSON object goes to stdout;
logs and progress go to stderr. Exit codes: 0 done; 2 an error that the message on stderr
explains, stdout empty; 130 stopped with Ctrl-C; ``doctor`` gives 1 when a check fails.
``lab`` and ``demo`` serve until they are stopped and have no ``--json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from earthmind_lab import cli_options as options
from earthmind_lab.errors import EarthMindError, PromptError, SearchError

if TYPE_CHECKING:
    from earthmind_lab.aoi import AOI
    from earthmind_lab.chip import Chip
    from earthmind_lab.scene import ScenePair

T = TypeVar("T")
ERROR, STOPPED, UNWELL = 2, 130, 1
"""Exit codes; 130 is what shells give a command that Ctrl-C ended."""
_NEGATIVE = re.compile(r"-[\d.]")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a verb found."""

    data: dict[str, Any]
    """For --json."""
    lines: Sequence[str]
    """For people."""
    code: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Words after ``earthmind``; the process's own by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        given = build_parser().parse_args(_joined(words))
    except SystemExit as stop:  # argparse has printed usage or help
        return stop.code if isinstance(stop.code, int) else ERROR
    verb: Callable[[argparse.Namespace], Outcome] = given.verb
    try:
        # Whatever a library prints belongs to the log, not to the result.
        with contextlib.redirect_stdout(sys.stderr):
            outcome = verb(given)
        # All of it before the first character goes out.
        text = _text(outcome, as_json=given.json)
    except (EarthMindError, OSError) as error:
        print(f"earthmind {given.name}: {_printable(str(error))}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print(f"earthmind {given.name}: stopped", file=sys.stderr)
        return STOPPED
    if text:
        _print(text)
    return outcome.code


def _text(outcome: Outcome, *, as_json: bool) -> str:
    """What goes to stdout."""
    if not as_json:
        return "\n".join(map(_printable, outcome.lines))
    return json.dumps(outcome.data, ensure_ascii=False, allow_nan=False)


def build_parser() -> argparse.ArgumentParser:
    """The parser; README's option lists are tested against it."""
    parser = argparse.ArgumentParser(
        prog="earthmind", description="Ask a model about the Earth, with evidence.",
        allow_abbrev=False,
    )  # fmt: skip
    from earthmind_lab import __version__

    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="name", metavar="VERB", required=True)
    about = "optical/SAR pairs of an area, best first"
    _verb(verbs, "search", search, about, options.place, options.every, options.freeze)
    pixels = (options.place, options.pair, options.own, options.out)
    about = "load the pixels of a pair on one grid"
    _verb(verbs, "chip", chip, about, *pixels, options.bundle)
    _verb(verbs, "ask", ask, "ask a model about an area or a picture", *pixels, options.ask)
    _verb(verbs, "replay", replay, "ask again what a record asked and compare", options.replay)
    about = "the chips kept on disk: count, check or remove them"
    _verb(verbs, "cache", cache, about, options.cache)
    about = "write a checkpoint in our layout or as published"
    _verb(verbs, "convert", convert, about, options.convert)
    about = "check what an answer needs; exit code 1 when something lacks"
    _verb(verbs, "doctor", doctor, about, options.catalogs)
    _server(
        verbs, "lab", lab, "JupyterLab on the map notebook, on this machine only", options.folder
    )
    _server(verbs, "demo", demo, "the demo page, on this machine only")
    return parser


def search(given: argparse.Namespace) -> Outcome:
    """``earthmind search``: the ranked pairs."""
    from earthmind_lab.data.search import search_candidates
    from earthmind_lab.recording import plain

    aoi, rejected = _aoi(given), []
    if given.all:
        found = search_candidates(aoi, catalog=given.catalog, **_limits(given))
        pairs, rejected = list(found.pairs), list(found.rejected)
    else:
        pairs = _search(given, aoi)
    lines = [line for number, pair in enumerate(pairs, start=1) for line in _about(pair, number)]
    lines += [
        f"Rejected: {' + '.join(scene.id for scene in each.scenes)}: {each.reason}"
        for each in rejected
    ]
    data: dict[str, Any] = {"pairs": [pair.to_dict() for pair in pairs]}
    if given.all:
        data["rejected"] = [each.to_dict() for each in rejected]
    if given.freeze:
        from earthmind_lab.data.frozen import freeze_search

        path = str(freeze_search(given.freeze, pairs, aoi, terms=_limits(given)))
        data, lines = {**data, "frozen": path}, [*lines, f"Wrote {path}"]
    return Outcome(data=plain(data), lines=lines)


def chip(given: argparse.Namespace) -> Outcome:
    """``earthmind chip``: what a load gives; with --out its GeoTIFFs."""
    from earthmind_lab.data.bundle import save_bundle
    from earthmind_lab.data.load import load_chip, plan_chip
    from earthmind_lab.export import CHIP_FILES, check_folder, save_chip
    from earthmind_lab.recording import grid_dict, plain

    if given.out:
        check_folder(given.out, CHIP_FILES)
    if given.bundle:
        check_folder(Path(given.bundle).parent)
    loaded = _own(given)
    if loaded is None:
        aoi = _aoi(given)
        pair = _chosen(given, aoi)
        plan = plan_chip(pair, aoi, gsd=given.gsd)
        loaded = load_chip(pair, aoi, plan=plan)
    else:
        pair = loaded.pair
        plan = plan_chip(pair, loaded.aoi, gsd=loaded.gsd, bands=loaded.bands)
    files = save_chip(loaded, given.out) if given.out else {}
    if given.bundle:
        files["bundle"] = save_bundle([loaded], given.bundle)
    data = {
        "pair": pair.to_dict(),
        "grid": grid_dict(loaded.grid),
        "gsd": loaded.gsd,
        "bands": loaded.bands,
        "polarisations": loaded.polarisations,
        "reads": plan.reads,
        "bytes": plan.bytes,
        "radiometry": loaded.radiometry.to_dict(),
        "files": {name: str(path) for name, path in files.items()} or None,
    }
    rows, columns = loaded.grid.shape
    lines = [
        *_about(pair),
        f"Grid: {columns} x {rows} px of {loaded.gsd:g} m, {loaded.grid.crs}",
        f"Optical: {', '.join(loaded.bands) or 'none'}",
        f"SAR: {', '.join(loaded.polarisations) or 'none'}",
        f"Read: {plan.reads} files, about {plan.bytes / 1e6:.1f} MB",
        *(f"{name}: {value}" for name, value in loaded.radiometry.to_dict().items() if value),
        *(f"Wrote {path}" for path in files.values()),
    ]
    return Outcome(data=plain(data), lines=lines)


def ask(given: argparse.Namespace) -> Outcome:
    """``earthmind ask``: one question, one answer with evidence and record."""
    from earthmind_lab.conversation import Conversation
    from earthmind_lab.engine.loading import load_engine
    from earthmind_lab.exchange import Options
    from earthmind_lab.export import ANSWER_FILES, check_folder, save_answer
    from earthmind_lab.recording import plain

    if given.out:
        check_folder(given.out, ANSWER_FILES)
    if not given.question.strip():
        raise PromptError("The question is empty.", change="ask something")
    subject, pair, how = _subject(given)
    talk = Conversation(subject, load_engine(given.model), search=how)
    answer = talk.ask(given.question, options=Options(seed=given.seed))
    model = {key: str(answer.record.model[key]) for key in ("name", "revision")}
    # Before any file: a model's numbers need not be finite, and JSON has no other.
    data = plain({**answer.to_dict(), "pair": pair.to_dict() if pair else None, "model": model})
    path = None
    if given.out:
        path = str(save_answer(answer, given.out, talk.views, chip=talk.chip)["record.json"])
    return Outcome(data={**data, "record": path}, lines=_told(answer, pair, path))


def replay(given: argparse.Namespace) -> Outcome:
    """``earthmind replay``: the same answer, or which link broke."""
    from earthmind_lab.engine.loading import load_engine
    from earthmind_lab.replay import read_record
    from earthmind_lab.replay import replay as again

    record = read_record(given.record)
    engine = load_engine(given.model) if given.model else None
    found = again(record, engine=engine, chips=_bundled(given.bundle))
    head = "The same answer." if found.same else "Not the same answer."
    return Outcome(data=found.to_dict(), lines=[head, *found.differences])


def cache(given: argparse.Namespace) -> Outcome:
    """``earthmind cache``: what is kept on disk."""
    from earthmind_lab.data.cache import ChipCache

    kept = ChipCache.from_settings()
    data: dict[str, Any] = {"removed": kept.clear()} if given.clear else {}
    data |= {"damaged": kept.verify()} if given.verify else {}
    entries = kept.entries()
    size = sum(entry.bytes for entry in entries)
    data |= {"folder": str(kept.folder), "entries": len(entries), "bytes": size}
    lines = [f"Removed {data['removed']} chips"] if given.clear else []
    lines += [f"Damaged, removed: {key}" for key in data.get("damaged", ())]
    lines.append(f"{len(entries)} chips in {kept.folder}")
    lines.append(f"{size / 1e9:.2f} GB of at most {kept.limit / 1e9:.2f} GB")
    return Outcome(data={**data, "limit": kept.limit}, lines=lines)


def convert(given: argparse.Namespace) -> Outcome:
    """``earthmind convert``: a checkpoint in the other layout."""
    from earthmind_lab.model.convert import convert_checkpoint
    from earthmind_lab.model.published import local_folder

    written = convert_checkpoint(
        local_folder(given.source),
        given.target,
        to=given.to,
        dtype=given.dtype,
        unsafe_bin=given.unsafe_bin,
        **({"fusion": given.fusion} if given.fusion else {}),
    )
    files = sorted(path.name for path in written.iterdir())
    size = sum((written / name).stat().st_size for name in files)
    line = f"{written}: {len(files)} files, {size / 1e6:.1f} MB"
    return Outcome(data={"folder": str(written), "files": files, "bytes": size}, lines=[line])


def doctor(given: argparse.Namespace) -> Outcome:
    """``earthmind doctor``: what this machine lacks."""
    from earthmind_lab.checks import doctor as examine

    health = examine(catalogs=given.catalogs)
    lines = []
    for check in health.checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
        if check.remedy:
            lines.append(f"     try: {check.remedy}")
    return Outcome(data=health.to_dict(), lines=lines, code=0 if health.ok else UNWELL)


def lab(given: argparse.Namespace) -> Outcome:
    """``earthmind lab``: JupyterLab on the map notebook."""
    from earthmind_lab.lab import open_lab

    code = open_lab(given.folder, port=given.port or 8888, browser=not given.no_browser)
    return Outcome(data={}, lines=[], code=code)


def demo(given: argparse.Namespace) -> Outcome:
    """``earthmind demo``: the Gradio page."""
    from earthmind_lab.demo import serve

    serve(port=given.port or 7860, browser=not given.no_browser)
    return Outcome(data={}, lines=[])


def _server(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], Outcome], about: str,
    *groups: Callable[[argparse.ArgumentParser], None],
) -> None:  # fmt: skip
    """A verb that serves until it is stopped: nothing to print as JSON."""
    parser = verbs.add_parser(name, help=about, description=about, allow_abbrev=False)
    for add in groups:
        add(parser)
    parser.add_argument("--port", type=int, help="on 127.0.0.1")
    parser.add_argument("--no-browser", action="store_true", help="only serve")
    parser.set_defaults(verb=run, json=False)


def _verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], Outcome], about: str,
    *groups: Callable[[argparse.ArgumentParser], None],
) -> None:  # fmt: skip
    parser = verbs.add_parser(name, help=about, description=about, allow_abbrev=False)
    for add in groups:
        add(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(verb=run)


def _joined(words: Sequence[str]) -> list[str]:
    """``--aoi -0.7,…`` as one word: argparse takes a value with a minus for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--aoi" and _NEGATIVE.match(word):
            joined[-1] = f"--aoi={word}"
        else:
            joined.append(word)
    return joined


def _aoi(given: argparse.Namespace) -> AOI:
    from earthmind_lab.aoi import AOI
    from earthmind_lab.errors import AOIError

    if given.aoi is None:
        raise AOIError("No AOI was given.", change="--aoi W,S,E,N or --aoi FILE")
    return AOI.from_any(given.aoi)


def _limits(given: argparse.Namespace) -> dict[str, Any]:
    if given.dates is None and given.around is None:
        raise SearchError("No dates were given.", change="--dates 2019-09-15/2019-09-20")
    wishes = {"around": given.around, "pin": given.pin, "exclude": given.exclude}
    return {
        "dates": given.dates,
        "sensors": given.sensors,
        "max_gap": given.max_gap,
        "max_cloud": given.max_cloud,
        "purpose": given.purpose,
        **{name: wish for name, wish in wishes.items() if wish is not None},
    }


def _search(given: argparse.Namespace, aoi: AOI) -> list[ScenePair]:
    from earthmind_lab.data.search import search_pairs

    return search_pairs(aoi, catalog=given.catalog, **_limits(given))


def _chosen(given: argparse.Namespace, aoi: AOI) -> ScenePair:
    return _ranked(_search(given, aoi), given.pair, "pair")


def _ranked(held: Sequence[T], rank: int, what: str) -> T:
    if not 1 <= rank <= len(held):
        raise SearchError(
            f"There is no {what} number {rank}.",
            found=f"{len(held)} {what}s",
            change=f"--pair 1 to --pair {len(held)}",
        )
    return held[rank - 1]


def _bundled(path: str | None) -> tuple[Chip, ...]:
    """The chips of a bundle."""
    from earthmind_lab.data.bundle import open_bundle

    return () if path is None else open_bundle(path).chips


def _subject(given: argparse.Namespace) -> tuple[Any, ScenePair | None, dict[str, Any] | None]:
    """What is asked about, its pair, and how that was found."""
    if given.image is not None:
        if given.aoi is not None or given.bundle is not None:
            raise PromptError("A picture has no AOI.", change="only --image, --aoi or --bundle")
        if given.optical is not None or given.sar is not None:
            change = "either --image or --optical and --sar"
            raise PromptError("A plain picture has no place beside other files.", change=change)
        return given.image, None, None
    if given.bundle is not None:
        if given.aoi is not None:
            raise PromptError("A bundle has its own AOI.", change="either --bundle or --aoi")
        chip = _ranked(_bundled(given.bundle), given.pair, "chip")
        return chip, chip.pair, None
    from earthmind_lab.data.load import load_chip

    own = _own(given)
    if own is not None:
        return own, own.pair, None
    aoi = _aoi(given)
    pair = _chosen(given, aoi)
    how = {**_limits(given), "gsd": given.gsd, "rank": given.pair}
    return load_chip(pair, aoi, gsd=given.gsd), pair, how


def _own(given: argparse.Namespace) -> Chip | None:
    """The chip of own files; None where a catalog is asked for scenes."""
    words = {name: getattr(given, name) for name in options.OWN}
    if all(value is None for value in words.values()) and given.time is None:
        return None
    from earthmind_lab.data.own_files import open_chip

    if given.dates is not None or given.catalog is not None:
        raise SearchError(
            "Own files aren't searched for in a catalog.",
            change="--time for when they were taken, without --dates and --catalog",
        )
    times: Any = given.time
    if times and (len(times) > 1 or times[0].startswith(("optical=", "sar="))):
        times = dict(text.partition("=")[::2] for text in times)
    elif times:
        (times,) = times
    return open_chip(aoi=given.aoi, gsd=given.gsd, datetime=times, **words)


def _about(pair: ScenePair, number: int | None = None) -> list[str]:
    head = "Pair" if number is None else f"{number}."
    lines = [f"{head} score {pair.score:.1f}, gap {pair.gap_hours} h"]
    lines += [f"   {scene.modality}: {scene.id}, {scene.observed}" for scene in pair.scenes]
    return lines + [f"   {reason}" for reason in pair.reasons]


def _told(answer: Any, pair: ScenePair | None, path: str | None) -> list[str]:
    """An answer for people."""
    from earthmind_lab.answer import format_area

    lines = _about(pair) if pair else []
    lines.append(f"Answer: {answer.text}")
    lines += [f"Notice: {answer.notice}"] if answer.notice else []
    if answer.grid is not None and not answer.detections:
        lines.append("Mapped area: none")
    for label, area in answer.areas.items():
        count = sum(item.label == label for item in answer.detections)
        objects = "1 object" if count == 1 else f"{count} objects"
        lines.append(f"Mapped area: {format_area(area)} of {label} in {objects}")
    lines += [f"Evidence: {claim.verdict}: {claim.sentence()}" for claim in answer.evidence]
    return [*lines, f"Record: {path or 'none (--out DIR writes one)'}"]


def _printable(line: str) -> str:
    """Text of models and catalogs is data: no control character reaches the terminal."""
    return "".join(char if char.isprintable() else " " for char in line)


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader (head) has gone: its choice, not an error. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
