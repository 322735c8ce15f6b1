"""``earthmind finetune STEP``: its options, and what each step calls."""

from __future__ import annotations

import argparse
from typing import Any

from earthmind_lab.cli_verbs import UNWELL, Outcome


def check_options(parser: argparse.ArgumentParser) -> None:
    """Of ``finetune check``."""
    parser.add_argument(
        "data", metavar="DATA", help="JSON or JSON Lines, or a folder with instances and an index"
    )
    parser.add_argument(
        "--form", choices=("llava", "messages", "refer", "regions"),
        help="what DATA is; default: as its content looks",
    )  # fmt: skip
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the pictures; default: beside each file"
    )
    parser.add_argument("--split", metavar="S", help="only this one of an index: train, val, …")
    parser.add_argument(
        "--model", default="nano", metavar="M",
        help="whose tokens are counted: nano, an alias, or a folder; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", metavar="N", type=_positive,
        help="longest example, with its answer; default: what the model reads",
    )  # fmt: skip
    parser.add_argument(
        "--against", metavar="OTHER", help="data that must be apart: find what both have"
    )
    parser.add_argument("--against-split", metavar="S", help="only this one of OTHER's index")
    parser.add_argument("--out", metavar="DIR", help="folder for check.html and check.json")


def check(given: argparse.Namespace) -> Outcome:
    """``earthmind finetune check``: whether data can be trained on as they are."""
    from earthmind_lab.export import check_folder
    from earthmind_lab.finetune.checking import check_examples
    from earthmind_lab.finetune.opening import open_examples
    from earthmind_lab.finetune.report import CHECK_FILES
    from earthmind_lab.model.processing import EarthMindProcessor
    from earthmind_lab.recording import plain

    if given.out:
        check_folder(given.out, CHECK_FILES)
    examples = open_examples(given.data, form=given.form, images=given.images, split=given.split)
    other = None
    if given.against:
        other = open_examples(given.against, images=given.images, split=given.against_split)
    report = check_examples(
        examples,
        EarthMindProcessor.from_pretrained(given.model),
        max_tokens=given.max_tokens,
        against=other,
    )
    files = report.save(given.out) if given.out else {}
    data: dict[str, Any] = plain(report.to_dict())
    data["files"] = {name: str(path) for name, path in files.items()} or None
    lines = [*report.lines(), *(f"Wrote {path}" for path in files.values())]
    return Outcome(data=data, lines=lines, code=0 if report.ok else UNWELL)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of tokens")
    return value
