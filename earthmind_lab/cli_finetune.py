"""``earthmind finetune check | plan | run | publish``: data, costs, the training, its gate."""

from __future__ import annotations

import argparse
from statistics import fmean
from typing import TYPE_CHECKING, Any

from earthmind_lab.cli_verbs import UNWELL, Outcome

if TYPE_CHECKING:
    from earthmind_lab.finetune.examples import Examples
    from earthmind_lab.finetune.recipe import Recipe

STOPPED = 130
"""Exit code of a training that Ctrl-C ended, with a checkpoint to go on from."""


def add(added: Any) -> None:
    """The verb with its verbs."""
    about = "train a model by a recipe, adapters or whole parts of it; look at data before"
    parser = added.add_parser("finetune", help=about, description=about, allow_abbrev=False)
    inner = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    about = "look at training data; exit code 1 when it can't be trained on as it is"
    checked = inner.add_parser("check", help=about, description=about, allow_abbrev=False)
    _check(checked)
    checked.set_defaults(verb=check)
    about = "memory and time that a training would take"
    planned = inner.add_parser("plan", help=about, description=about, allow_abbrev=False)
    _recipe(planned)
    planned.set_defaults(verb=plan)
    about = "train; where DIR holds a training already, go on with it"
    ran = inner.add_parser("run", help=about, description=about, allow_abbrev=False)
    _recipe(ran)
    ran.add_argument("--out", metavar="DIR", required=True, help="folder of the run")
    ran.add_argument("--anew", action="store_true", help="refuse to go on with a training in DIR")
    ran.set_defaults(verb=run)
    about = "write what may be handed on of a run; refused where it got worse or a licence lacks"
    given = inner.add_parser("publish", help=about, description=about, allow_abbrev=False)
    _publish(given)
    given.set_defaults(verb=publish)


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DATA",
        help="JSON or JSON Lines, a folder with instances and an index, or labelled areas "
        "(.geojson, .gpkg)",
    )  # fmt: skip
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
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="changes",
        help="of labelled areas, for example areas.dates=2023-05-01/2023-09-30; repeatable",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _recipe(parser: argparse.ArgumentParser) -> None:
    about = "few, lora, qlora, dora, full, image, multi, pretrain, instruct, fusion, or a YAML file"
    parser.add_argument("recipe", metavar="RECIPE", help=about)
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="changes",
        help="another value, for example lora.rank=8; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="PATH", action="append", default=[],
        help="examples to learn from, instead of those of the recipe; repeatable",
    )  # fmt: skip
    for name, about in (
        ("validation", "examples to stop early by"),
        ("test", "examples held out: answered before and after, for the card"),
        ("guard", "what it can do and should still do: answered before and after, for the gate"),
    ):
        parser.add_argument(
            f"--{name}", metavar="PATH", action="append", default=[], help=f"{about}; repeatable"
        )
    parser.add_argument(
        "--licence", metavar="L", default="",
        help="of the examples of --data, where they don't say their own",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="folder of a training that has ended")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write")
    parser.add_argument("--merged", action="store_true", help="the whole model, not the adapter")
    parser.add_argument(
        "--margin", metavar="M", type=float, default=0.05,
        help="what a score of the guard set may fall by, 0 to 1; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--without-guard", action="store_true", help="although nobody knows what got worse"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def check(given: argparse.Namespace) -> Outcome:
    """``earthmind finetune check``: whether data can be trained on as they are."""
    from earthmind_lab.export import check_folder
    from earthmind_lab.finetune.checking import check_examples
    from earthmind_lab.finetune.opening import open_examples
    from earthmind_lab.finetune.report import CHECK_FILES
    from earthmind_lab.finetune.sets import is_areas
    from earthmind_lab.model.processing import EarthMindProcessor
    from earthmind_lab.recording import plain

    if given.out:
        check_folder(given.out, CHECK_FILES)
    if is_areas(given.data):
        examples: Examples = _of_areas(given)
    else:
        examples = open_examples(
            given.data, form=given.form, images=given.images, split=given.split
        )
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


def _of_areas(given: argparse.Namespace) -> Examples:
    """All questions about labelled areas, as a training would ask them."""
    from earthmind_lab.finetune.recipe import Recipe
    from earthmind_lab.finetune.sections import Source
    from earthmind_lab.finetune.sets import Sets, open_sets

    recipe = Recipe(name="check", model=given.model, test=(Source(path=given.data),))
    found = open_sets(recipe.replace(*given.changes), Sets()).test
    assert found is not None
    return found


def chosen(given: argparse.Namespace) -> Recipe:
    """The recipe with what the options change."""
    from earthmind_lab.finetune.recipe import Recipe
    from earthmind_lab.finetune.sections import Source

    recipe = Recipe.load(given.recipe).replace(*given.changes)
    for key in ("data", "validation", "test", "guard"):
        if paths := getattr(given, key):
            licence = given.licence if key == "data" else ""
            own = tuple(Source(path=path, licence=licence) for path in paths)
            recipe = recipe.replace(**{key: own})
    return recipe


def plan(given: argparse.Namespace) -> Outcome:
    """``earthmind finetune plan``: memory, and with examples time."""
    from earthmind_lab.finetune.run import planned

    found = planned(chosen(given))
    return Outcome(data=found.to_dict(), lines=found.explain())


def run(given: argparse.Namespace) -> Outcome:
    """``earthmind finetune run``: from a recipe to an adapter."""
    from earthmind_lab.finetune.run import finetune

    made = finetune(chosen(given), out=given.out, resume=not given.anew)
    lines = [f"{made.steps} steps, {made.seconds:.0f} s: {made.ended}"]
    losses = [row["loss"] for row in made.losses() if "loss" in row]
    if losses:
        tenth = max(1, len(losses) // 10)  # single steps jump: some have masks, others none
        first, last = (fmean(part) for part in (losses[:tenth], losses[-tenth:]))
        lines.append(f"Loss: {first:.4f} in the first tenth of the steps, {last:.4f} in the last")
    for name, loss in made.guard.items():
        lines.append(f"Guard set, {name}: {loss:.4f}")
    if made.adapter is None:
        lines.append(f"Stopped: the same command goes on from {made.folder}")
        return Outcome(data=made.to_dict(), lines=lines, code=STOPPED)
    lines.append(f"Adapter: {made.adapter} ({made.hash[:12]})")
    if made.hash:  # of several processes one writes
        lines += [*made.card().lines(), f"Card: {made.folder / 'card.md'}"]
    return Outcome(data=made.to_dict(), lines=lines)


def publish(given: argparse.Namespace) -> Outcome:
    """``earthmind finetune publish``: weights, card and licence, if nothing stands against it."""
    from earthmind_lab.finetune.gate import publish as hand_on

    said = hand_on(
        given.run_folder,
        given.out,
        merged=given.merged,
        margin=given.margin,
        without_guard=given.without_guard,
    )
    assert said.terms is not None
    data = {"folder": given.out, "licence": said.terms.words, "notes": list(said.notes)}
    return Outcome(data=data, lines=[*said.lines(), f"Wrote {given.out}"])


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of tokens")
    return value
