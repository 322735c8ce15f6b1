"""The sets of examples that a recipe names: to learn, to stop early, to test and to guard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.batches import Joined
from earthmind_lab.finetune.examples import Examples
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.sections import Source

if TYPE_CHECKING:
    from earthmind_lab.finetune.areas import AreaSets

SIDES = {"data": "train", "validation": "validation", "test": "test"}
"""Keys of a recipe, and which side of labelled areas goes there."""


OWN = "sample"
"""In place of a path: questions about scenes of the embedded catalog, see `embedded`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """What a training reads."""

    train: Examples | None = None
    validation: Examples | None = None
    guard: Examples | None = None
    test: Examples | None = None
    said: tuple[str, ...] = ()
    """How labelled areas were divided and which have no scenes; for people."""


def open_sets(recipe: Recipe, given: Sets) -> Sets:
    """The sets of a recipe.

    Labelled areas among the data are split by place: a side of them stops early, another tests,
    unless the recipe names own examples for that.

    Args:
        recipe: Its ``data``, ``validation``, ``guard``, ``test`` and ``areas``.
        given: What is there already takes the place of what the recipe names.

    Raises:
        EarthMindError: A source can't be read.
    """
    said: list[str] = []
    parts: dict[str, list[tuple[Examples, float]]] = {key: [] for key in (*SIDES, "guard")}
    named = {key: getattr(recipe, key) for key in parts}
    have = {"data": given.train, **{k: getattr(given, k) for k in ("validation", "guard", "test")}}
    for key, sources in named.items():
        if have[key] is not None:
            continue
        for source in sources:
            if not is_areas(source.path):
                examples = _own(recipe) if source.path == OWN else _opened(source, recipe.seed)
                parts[key].append((examples, source.repeats))
                continue
            found = _areas(source, recipe, whole=key != "data")
            said += found.lines()
            for other, side in SIDES.items() if key == "data" else ():
                own = other == key or (have[other] is None and not named[other])
                if own and side in found.sets:
                    parts[other].append((found[side], source.repeats if other == key else 1.0))
            if key != "data":
                parts[key].append((found.source, source.repeats))
    sets = {k: have[k] or (Joined(v, seed=recipe.seed) if v else None) for k, v in parts.items()}
    return Sets(
        train=sets["data"],
        validation=sets["validation"],
        guard=sets["guard"],
        test=sets["test"],
        said=tuple(said),
    )


def is_areas(path: str | Path) -> bool:
    """Whether a file holds labelled areas, by its name.

    >>> is_areas("a.GeoJSON"), is_areas("a.json")
    (True, False)
    """
    return Path(path).suffix.lower() in (".geojson", ".gpkg")


def _opened(source: Source, seed: int) -> Examples:
    """Examples of a file or folder."""
    from earthmind_lab.finetune.opening import open_examples

    form: Any = source.form  # one of `sections.FORMS`
    return open_examples(
        source.path,
        form=form,
        images=source.images,
        split=source.split,
        licence=source.licence,
        seed=seed,
    )


def _own(recipe: Recipe) -> Examples:
    """Questions about embedded scenes."""
    from earthmind_lab.finetune.embedded import embedded_examples

    return embedded_examples(composites=_composites(recipe), seed=recipe.seed)


def _composites(recipe: Recipe) -> tuple[str, ...]:
    """The pictures that the model of a recipe wants to be shown."""
    from earthmind_lab.model.convert import read_config
    from earthmind_lab.model.published import local_folder

    return tuple(read_config(local_folder(recipe.model)).composites)


def _areas(source: Source, recipe: Recipe, *, whole: bool) -> AreaSets:
    """Labelled areas as the model of the recipe wants to be shown them."""
    from earthmind_lab.finetune.areas import labelled_areas

    wanted = recipe.areas
    if not wanted.dates:
        raise EarthMindError(
            f"{Path(source.path).name} holds labelled areas, and nobody says of which time.",
            change="areas.dates=2023-05-01/2023-09-30 (--set, or the section areas of the recipe)",
        )
    limits: dict[str, Any] = {
        name: value
        for name in ("max_gap", "max_cloud", "catalog")
        if (value := getattr(wanted, name)) is not None
    }
    shares = {"train": 1.0} if whole else None
    return labelled_areas(
        source.path,
        wanted.dates,
        column=wanted.column,
        complete=wanted.complete,
        side_km=wanted.side_km,
        block_km=wanted.block_km,
        shares=shares,
        composites=_composites(recipe),
        licence=source.licence,
        seed=recipe.seed,
        **limits,
    )
