"""What may be handed on of a run, and what stands against it.

    verdict(card)          the guard set and the licences, judged
    publish(run, out)      the same, and then the files; refused as a whole or written as a whole

The guard set speaks by the answers that both models gave. With few places no test can be sure, so
what counts is the fall itself; beside it stands how likely chance makes such a fall.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.evaluate.metrics import LEAST_UNITS
from earthmind_lab.finetune.card import Card
from earthmind_lab.finetune.outcome import Run
from earthmind_lab.finetune.rights import Terms, terms

MARGIN = 0.05
"""Fall of a mean score, or share by which a loss rises, that is let pass."""
SURE = 0.05
"""Of a sign test: below it chance hardly makes so many places worse."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a gate says of a run."""

    against: tuple[str, ...]
    """Why it may not be handed on; none = it may."""
    notes: tuple[str, ...]
    """What was measured and how sure that is."""
    terms: Terms | None
    """What the licences ask for; None = they are one of the reasons."""

    @property
    def ok(self) -> bool:
        """Whether it may be handed on."""
        return not self.against

    def lines(self) -> list[str]:
        """For people."""
        return [*self.notes, *(f"Refused: {reason}" for reason in self.against)]


def verdict(card: Card, *, margin: float = MARGIN, without_guard: bool = False) -> Verdict:
    """Judge a run by its card.

    Args:
        card: Of the run.
        margin: What a mean score of the guard set may fall by, 0 to 1; a loss, where answers are
            too long to be scored, may rise by this share.
        without_guard: Let it pass although nobody knows what got worse.
    """
    if not (math.isfinite(margin) and 0 <= margin < 1):
        raise EarthMindError(f"A margin can't be {margin:g}.", change="0 or more, less than 1")
    against: list[str] = []
    notes: list[str] = []
    guard = card.data["sets"].get("guard")
    reason = _no_guard(guard)
    if reason and not without_guard:
        against.append(
            f"{reason} What the model could do before and can't any more isn't known. "
            "Train with a guard set (--guard), or publish without (--without-guard)."
        )
    elif reason:
        notes.append(f"{reason} It is handed on without.")
    if guard is not None:
        for row in guard["rows"]:
            kind = row["task"], row["kind"]
            own = [each for each in guard["outcomes"] if (each["task"], each["kind"]) == kind]
            note, fell = _judged(row, own, margin)
            notes.append(note)
            against += [f"{note}; the margin is {margin:g}"] if fell else []
    held = None
    try:
        held = terms(card.data["data"]["licences"], card.data["model_licence"])
        notes.append(f"Licence: {held.words}")
    except EarthMindError as error:
        against.append(str(error))
    return Verdict(against=tuple(against), notes=tuple(notes), terms=held)


def publish(
    run: Run | str | Path,
    out: str | Path,
    *,
    merged: bool = False,
    margin: float = MARGIN,
    without_guard: bool = False,
) -> Verdict:
    """Write what may be handed on of a run: weights, card, licence.

    Args:
        run: What `finetune` returned, or its folder.
        out: Folder to write; complete when this returns, untouched when it fails.
        merged: The whole model instead of the adapter.
        margin: As in `verdict`.
        without_guard: As in `verdict`.

    Raises:
        EarthMindError: It got worse on the guard set, there is none, a licence is missing or
            forbids it, the card is that of other weights, or `out` isn't empty or can't be written.
    """
    from earthmind_lab.finetune.checkpoints import write_json
    from earthmind_lab.finetune.export import ABOUT, adapter_hash, merge

    folder, out = run.folder if isinstance(run, Run) else Path(run), Path(out)
    card = Card.load(folder)
    if (found := adapter_hash(folder / "adapter")) != card.data["adapter"]:
        raise EarthMindError(
            f"The card of {folder} is that of another adapter.",
            found=f"{found[:12]}, not {card.data['adapter'][:12]}",
            change="the command that trained once more: it goes on to the card",
        )
    said = verdict(card, margin=margin, without_guard=without_guard)
    if said.terms is None or not said.ok:
        raise EarthMindError(
            "This may not be handed on.", found=". ".join(said.against),
            change="mend this and publish again; nothing was written",
        )  # fmt: skip
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EarthMindError(
            f"The folder {out} is not empty.", change="a folder that doesn't exist yet"
        )
    draft = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        given = draft / "given"
        if merged:
            merge(folder / "adapter", given)
            _say_licence(given / "config.json", said.terms.words)
        else:
            shutil.copytree(folder / "adapter", given)
            about = json.loads((given / ABOUT).read_text(encoding="utf-8"))
            # The folder of this machine is nobody else's.
            write_json(given / ABOUT, {**about, "model": Path(about["model"]).name})
        _texts(given, card, said)
        if out.exists():
            out.rmdir()
        given.rename(out)
    except OSError as error:
        raise EarthMindError(
            f"{out} can't be written.", found=str(error), change="some space, or another --out"
        ) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    return said


def for_others(data: Mapping[str, Any]) -> dict[str, Any]:
    """A card without what isn't to be handed on: pictures, words of the data, folders."""
    sets = {
        name: {**held, "outcomes": [_bare(row) for row in held["outcomes"]]}
        for name, held in data["sets"].items()
    }
    recipe = dict(data["recipe"])
    for key in ("data", "validation", "guard", "test"):
        recipe[key] = [{**source, "path": _name(source["path"]), "images": _name(source["images"])}
                       for source in recipe[key]]  # fmt: skip
    recipe["model"] = _name(recipe["model"])
    recipe["cache"] = {**recipe["cache"], "folder": None}
    recipe["areas"] = {**recipe["areas"], "catalog": _name(recipe["areas"]["catalog"])}
    remark = "The models could not be asked." if data["remark"] else ""
    return {**data, "sets": sets, "recipe": recipe, "remark": remark, "pictures": {}}


def sign_test(worse: int, better: int) -> float:
    """How likely chance makes at least so many of all that changed worse (one-sided, exact).

    >>> sign_test(5, 0), sign_test(0, 0), sign_test(1, 1)
    (0.03125, 1.0, 0.75)
    """
    count = worse + better
    ways = sum(math.comb(count, k) for k in range(worse, count + 1))
    return float(ways / 2**count)


def _no_guard(guard: Mapping[str, Any] | None) -> str:
    """Why a guard set says nothing; empty where it says something."""
    if guard is None:
        return "There was no guard set."
    if any(row["change"] or row["loss"] for row in guard["rows"]):
        return ""
    if guard["shared"]:
        return f"All the guard set has ({guard['shared']} examples) is in the training data, too."
    return "Not one example of the guard set could be asked."


def _judged(
    row: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]], margin: float
) -> tuple[str, bool]:
    """What is to say of a row of the guard set, and whether it fell beyond the margin."""
    head = f"Guard set, {row['task']}, {row['kind']} ({row['measure']})"
    change = row["change"]
    if row["lost"]:
        return f"{head}: the loss of {row['lost']} examples is no number any more", True
    if change is None:
        if row["loss"] is None:
            return f"{head}: none could be asked", False
        before, after = row["loss"]["before"], row["loss"]["after"]
        head = f"Guard set, {row['task']}, {row['kind']} (loss)"
        text = f"{head}: {before:.3f} before, {after:.3f} after"
        return text, after > before * (1 + margin)
    moves: dict[str, list[float]] = {}
    for each in outcomes:
        pair = each["before"]["score"], each["after"]["score"]
        if None not in pair:
            moves.setdefault(each["unit"], []).append(pair[1] - pair[0])
    sums = [sum(values) for values in moves.values()]
    worse, better = sum(s < 0 for s in sums), sum(s > 0 for s in sums)
    text = (
        f"{head}: {row['before']['value']:.2f} before, {row['after']['value']:.2f} after on "
        f"{row['asked']} examples of {len(sums)} places; {worse} places got worse, {better} "
        f"better (sign test p={sign_test(worse, better):.2g}{_weak(len(sums))})"
    )
    if change["low"] is not None:
        text += f"; change {change['low']:+.2f} to {change['high']:+.2f} (95 %)"
    return text, change["value"] < -margin - 1e-9


def _weak(places: int) -> str:
    """How weak a sign test of so few places is.

    >>> _weak(3)
    ', a weak test: even 3 of 3 places worse would be chance with p=0.12'
    """
    least = 2.0**-places
    if least > SURE:
        all_of = f"{places} of {places} places"
        return f", a weak test: even {all_of} worse would be chance with p={least:.2g}"
    if places < LEAST_UNITS:
        return f", a weak test: only {places} of {places} or nearly all places worse would show"
    return ""


def _texts(folder: Path, card: Card, said: Verdict) -> None:
    """README.md, card.json, LICENCE.md."""
    assert said.terms is not None
    from earthmind_lab.finetune.telling import plain_text

    own = Card(for_others(card.data))
    # Words of ours over those of the base model; what that said of itself is linked by its hash.
    head = ["## Licence", "", plain_text(said.terms.words), "", "## The gate", ""]
    head += [f"- {plain_text(note)}" for note in said.notes]
    (folder / "README.md").write_text("\n".join([own.markdown(), *head, ""]), encoding="utf-8")
    text = json.dumps(own.data, ensure_ascii=True, allow_nan=False, indent=1) + "\n"
    (folder / "card.json").write_text(text, encoding="utf-8")
    (folder / "LICENCE.md").write_text(_licence(card.data, said.terms), encoding="utf-8")


def _licence(data: Mapping[str, Any], held: Terms) -> str:
    from earthmind_lab.finetune.telling import plain_text

    lines = ["# Licence of these weights", "", plain_text(held.words), ""]
    lines += [f"- The weights that the training began from: {plain_text(data['model_licence'])}"]
    for name, count in data["data"]["licences"].items():
        lines.append(f"- {count} training examples: {plain_text(name)}")
    for name in data["data"]["attributions"]:
        lines.append(f"- By {plain_text(name)}")
    return "\n".join([*lines, ""])


def _say_licence(path: Path, words: str) -> None:
    """Answers of the merged model carry its licence."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "licence": words}, indent=2) + "\n", encoding="utf-8")


def _bare(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in row.items() if k not in ("wanted", "before", "after")}
    both = {w: {k: row[w].get(k) for k in ("loss", "score")} for w in ("before", "after")}
    return {**kept, **both}


def _name(path: str | None) -> str | None:
    """The last part of a path, and of an address all of it."""
    return path if path is None or "://" in path else Path(path).name
