"""The tables of docs/scores.md: scores of a model, with everything taken away in turn.

    python scripts/score_nano.py out/nano/model out/nano/scores
    python scripts/score_nano.py out/nano/model out/nano/twins --catalog out/twins/catalog.json

Writes presence.md and landcover.md (what `earthmind evaluate` prints), controls.md (one line for
each thing taken away) and, where the catalog has cloudy pictures with a clear twin, clouds.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from earthmind_lab.engine import load_engine
from earthmind_lab.evaluate.controls import shuffled_engine
from earthmind_lab.evaluate.landcover import Cover, evaluate_landcover
from earthmind_lab.evaluate.metrics import balanced_accuracy, interval, majority, mean_of
from earthmind_lab.evaluate.presence import Presence, evaluate_presence
from earthmind_lab.evaluate.report import Table, table_lines

CONTROLS = {
    None: "nothing taken away", "blank": "black pictures", "other": "other places' pictures",
    "shuffled": "shuffled weights", "no-sar": "SAR switched off",
    "no-optical": "optical switched off",
}  # fmt: skip
OFF = "both, SAR off"


def control_lines(name: str, presence: Table, landcover: Table) -> Iterable[dict[str, Any]]:
    """Scores of a run over all scenes but the cloudy twins; of all truths, but for water."""
    for sensors in ("optical", "sar", "both"):
        said = [r for r in presence.rows if r.sensors == sensors and not r.twin]
        covers = [
            r for r in landcover.rows
            if isinstance(r, Cover) and r.sensors == sensors and r.there and not r.twin
        ]  # fmt: skip
        if said:
            water = [r for r in said if (r.label, r.truth) == ("water", "spectral index")]
            yield {
                "control": name,
                "sensors": sensors,
                "water, balanced": _balanced(water),
                "mean of classes, balanced": _balanced(said, groups=[r.label for r in said]),
                "IoU": mean_of([r.iou for r in covers]),
                "IoU of a mask of everything": mean_of([r.ones.iou for r in covers]),
            }


def _balanced(rows: Sequence[Presence], **more: Any) -> Any:
    places, there = [r.place for r in rows], [r.there for r in rows]
    return interval([r.right for r in rows], places, sides=there, **more)


def clouds(presence: Table, landcover: Table) -> list[list[dict[str, Any]]]:
    """Water on cloudy pictures by the truth of their clear twins.

    Returns:
        Answers per scene, IoU per scene, and both over the scenes that have SAR.
    """
    said = {(r.scene, r.sensors): r for r in presence.rows if _under_clouds(r)}
    covers = {
        (r.scene, r.sensors): r
        for r in landcover.rows
        if isinstance(r, Cover) and _under_clouds(r) and r.there
    }
    scenes = list(dict.fromkeys(scene for scene, _ in said))
    return [
        [_answers(scene, said) for scene in scenes],
        [_overlaps(scene, covers) for scene in scenes if (scene, "optical") in covers],
        _over_all([s for s in scenes if (s, "both") in said], said, covers),
    ]


def _under_clouds(row: Presence | Cover) -> bool:
    return row.twin and row.label == "water" and row.truth == "clear twin"


WAYS = {"optical": "optical", "SAR": "sar", "both": "both", "off": OFF}
"""Columns, and the sensors that were shown."""


def _answers(scene: str, said: dict[tuple[str, str], Presence]) -> dict[str, Any]:
    first = said[scene, "optical"]
    line: dict[str, Any] = {
        "scene": scene,
        "place": first.place,
        "water, share": first.share if first.there else "none",
    }
    found = {way: said.get((scene, shown)) for way, shown in WAYS.items()}
    both = found["both"]
    given = {way: row and row.said for way, row in found.items()}
    given |= {"VV": both and both.vv, "index": first.index}
    words = {True: "yes", False: "no", None: "neither"}
    for way, answer in given.items():
        asked = found.get(way, both if way == "VV" else first) is not None
        word = words[answer]
        line[way] = (word if answer == first.there else f"**{word}**") if asked else ""
    return line


def _overlaps(scene: str, covers: dict[tuple[str, str], Cover]) -> dict[str, Any]:
    first, both = covers[scene, "optical"], covers.get((scene, "both"))
    found = {way: covers.get((scene, shown)) for way, shown in WAYS.items()}
    return {
        "IoU of water": scene,
        **{way: row and row.iou for way, row in found.items()},
        "VV": both and both.vv and (both.vv.iou or 0.0),
        "index": first.index and (first.index.iou or 0.0),
        "all ones": first.ones.iou,
        **{
            f"{way} under cloud": row and row.hidden and row.hidden.iou
            for way, row in found.items()
        },
    }


def _over_all(
    scenes: Sequence[str],
    said: dict[tuple[str, str], Presence],
    covers: dict[tuple[str, str], Cover],
) -> list[dict[str, Any]]:
    """Right answers, balanced accuracy and mean IoU, one column for each way to answer."""
    if not scenes:
        return []
    rows = [said[scene, "both"] for scene in scenes]
    there = [row.there for row in rows]
    given: dict[str, list[bool | None]] = {
        way: [said[scene, shown].said for scene in scenes] for way, shown in WAYS.items()
    }
    given |= {
        "VV": [row.vv for row in rows],
        "index": [row.index for row in rows],
        "blind": [row.blind for row in rows],
    }
    right = {
        way: f"{sum(a == t for a, t in zip(answers, there, strict=True))} of {len(there)}"
        for way, answers in given.items()
    }
    constant = majority(there) or 0.0
    overlaps = [_overlaps(s, covers) for s in scenes if (s, "optical") in covers]
    means = [
        {
            f"over {len(scenes)} scenes in {len({row.place for row in rows})} places": title,
            **{way: mean_of([line.get(name.format(way)) for line in overlaps]) for way in given},
        }
        for title, name in (
            (f"IoU of water, {len(overlaps)} scenes", "{}"),
            ("of it under cloud", "{} under cloud"),
        )
    ]
    head = next(iter(means[0]))
    return [
        {head: "right", **right, "constant": f"{round(constant * len(there))} of {len(there)}"},
        {
            head: "balanced",
            **{way: balanced_accuracy(answers, there) for way, answers in given.items()},
            "constant": 0.5,
        },
        *means,
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--catalog", default="sample")
    asked = parser.parse_args()
    engine, lines = load_engine(asked.model), list[dict[str, Any]]()
    for control, name in CONTROLS.items():
        shuffled = control == "shuffled"
        with shuffled_engine(asked.model) if shuffled else nullcontext(engine) as used:
            presence = evaluate_presence(used, asked.catalog, control=control)
            landcover = evaluate_landcover(used, asked.catalog, control=control)
        lines += control_lines(name, presence, landcover)
        print(f"{name}: done", flush=True)
        if control is None:
            for table in (presence, landcover):
                table.save(asked.out / f"{table.task}.md")
                table.save(asked.out / f"{table.task}.json")
            under = clouds(presence, landcover)
            if text := "\n\n".join("\n".join(table_lines(part)) for part in under if part):
                (asked.out / "clouds.md").write_text(text + "\n")
    (asked.out / "controls.md").write_text("\n".join(table_lines(lines)) + "\n")


if __name__ == "__main__":
    main()
