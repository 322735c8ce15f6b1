"""The command line: ``earthmind search | chip | ask | replay | evaluate | cache | …``.

Each verb calls one public function. With ``--json`` exactly one JSON object goes to stdout;
logs and progress go to stderr. Exit codes: 0 done; 2 an error that the message on stderr
explains, stdout empty; 130 stopped with Ctrl-C; ``doctor`` and ``finetune check`` give 1 when a
check fails.
``lab``, ``demo`` and ``serve`` serve until they are stopped and have no ``--json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from earthmind_lab import cli_finetune
from earthmind_lab import cli_options as options
from earthmind_lab import cli_verbs as verbs
from earthmind_lab.cli_verbs import Outcome
from earthmind_lab.errors import EarthMindError

ERROR, STOPPED = 2, 130
"""Exit codes; 130 is what shells give a command that Ctrl-C ended."""
_NEGATIVE = re.compile(r"-[\d.]")


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
        with contextlib.redirect_stdout(sys.stderr), _told():
            outcome = verb(given)
        # All of it before the first character goes out.
        text = _text(outcome, as_json=given.json)
    except (EarthMindError, OSError) as error:
        print(f"earthmind {given.name}: {_options(_printable(str(error)), given)}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print(f"earthmind {given.name}: stopped", file=sys.stderr)
        return STOPPED
    if text:
        _print(text)
    return outcome.code


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What an engine says about its loading, and a training about its data, on stderr."""
    parts = [logging.getLogger(f"earthmind_lab.{name}") for name in ("engine", "finetune")]
    levels, handler = [said.level for said in parts], logging.StreamHandler(sys.stderr)
    for said in parts:
        said.addHandler(handler)
        said.setLevel(logging.INFO)
    try:
        yield
    finally:
        for said, level in zip(parts, levels, strict=True):
            said.setLevel(level)
            said.removeHandler(handler)


def _text(outcome: Outcome, *, as_json: bool) -> str:
    """What goes to stdout."""
    if not as_json:
        return "\n".join(map(_printable, outcome.lines))
    return json.dumps(outcome.data, ensure_ascii=False, allow_nan=False)


def build_parser() -> argparse.ArgumentParser:
    """The parser; README's option lists are tested against it."""
    parser = argparse.ArgumentParser(
        prog="earthmind", description="Ask a model about the Earth, with evidence.",
        epilog='for example: earthmind ask "Segment the water." --aoi -0.775,38.09,-0.745,38.12 '
        "--dates 2019-09-15/2019-09-20 --out out (embedded scenes and model, no network)",
        allow_abbrev=False,
    )  # fmt: skip
    from earthmind_lab import __version__

    parser.add_argument("--version", action="version", version=__version__)
    added = parser.add_subparsers(dest="name", metavar="VERB", required=True)
    about = "optical/SAR pairs of an area, best first"
    _verb(added, "search", verbs.search, about, options.place, options.every, options.freeze)
    pixels = (options.place, options.pair, options.own, options.out)
    about = "load the pixels of a pair on one grid"
    _verb(added, "chip", verbs.chip, about, *pixels, options.bundle)
    _verb(added, "ask", verbs.ask, "ask a model about an area or a picture", *pixels, options.ask)
    _verb(
        added, "replay", verbs.replay, "ask again what a record asked and compare", options.replay
    )
    about = "scores of a model on every scene of a catalog, beside rules that need none"
    _verb(added, "evaluate", verbs.evaluate, about, options.evaluate)
    about = "the chips kept on disk: count, check or remove them"
    _verb(added, "cache", verbs.cache, about, options.cache)
    about = "write a checkpoint in our layout or as published"
    _verb(added, "convert", verbs.convert, about, options.convert)
    cli_finetune.add(added)
    about = "check what an answer needs; exit code 1 when something lacks"
    _verb(added, "doctor", verbs.doctor, about, options.catalogs, options.fits)
    about = "JupyterLab on the map notebook, on this machine only"
    _server(added, "lab", verbs.lab, about, options.folder, options.page)
    _server(added, "demo", verbs.demo, "the demo page, on this machine only", options.page)
    about = "keep a model loaded and answer over HTTP; OpenAI's clients can ask it, too"
    _server(added, "serve", verbs.serve, about, options.serve)
    return parser


def _server(
    added: Any, name: str, run: Callable[[argparse.Namespace], Outcome], about: str,
    *groups: Callable[[argparse.ArgumentParser], None],
) -> None:  # fmt: skip
    """A verb that serves until it is stopped: nothing to print as JSON."""
    parser = added.add_parser(name, help=about, description=about, allow_abbrev=False)
    for add in groups:
        add(parser)
    parser.set_defaults(verb=run, json=False)


def _verb(
    added: Any, name: str, run: Callable[[argparse.Namespace], Outcome], about: str,
    *groups: Callable[[argparse.ArgumentParser], None],
) -> None:  # fmt: skip
    parser = added.add_parser(name, help=about, description=about, allow_abbrev=False)
    for add in groups:
        add(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(verb=run)


def _joined(words: Sequence[str]) -> list[str]:
    """``--aoi -0.7,…`` as one word: argparse takes a value with a minus for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--aoi", "--region") and _NEGATIVE.match(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _options(message: str, given: argparse.Namespace) -> str:
    """What to change under the names of this verb: ``--max-gap '8 days'`` for ``max_gap=``."""
    names = "|".join(vars(given))
    return re.sub(
        rf"\b({names})=(?=[\w'-])", lambda found: f"--{found[1].replace('_', '-')} ", message
    )


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
