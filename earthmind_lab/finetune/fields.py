"""The keys of a recipe one by one, as `Recipe` declares them: meaning, default, text and back.

Whoever asks for a recipe (a form, a page) takes them from here and can't forget one. Knows no
torch and no widget.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.plain import plain, read_value
from earthmind_lab.finetune.recipe import Recipe, from_yaml

Kind = Literal["choice", "flag", "text", "yaml", "rows"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One key of a recipe."""

    key: str
    """With dots into sections: ``lora.rank``."""
    meaning: str
    """What its declaration says."""
    kind: Kind
    """How it is asked for: one of some values, yes or no, a text, a value as in YAML, or several
    lines of it."""
    default: Any
    """Plain data; `NO_DEFAULT` where there is none."""
    choices: tuple[Any, ...] = ()
    """Of kind ``choice``."""
    optional: bool = False
    """Whether it may be left empty, which is None."""
    hint: Any = dataclasses.field(default=None, repr=False)
    """Its annotation."""

    @property
    def section(self) -> str:
        """The section that it stands in; empty = the recipe itself."""
        return self.key.rpartition(".")[0]

    def text(self, value: Any) -> str:
        """A value as it is typed.

        >>> rank, betas = (by_key()[key] for key in ("lora.rank", "optimiser.betas"))
        >>> rank.text(8), betas.text([0.9, 0.99])
        ('8', '[0.9, 0.99]')
        """
        value = plain(value)
        if value is None or (self.kind == "rows" and not value):
            return ""
        if self.kind == "text":
            return str(value)
        if self.kind == "rows":
            value = [{k: v for k, v in row.items() if v != _of_row(k)} for row in value]
            return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
        return flow.strip().removesuffix("...").strip()

    def value(self, typed: Any) -> Any:
        """What was typed or chosen, as plain data that fits the key.

        Raises:
            EarthMindError: It doesn't fit.

        >>> by_key()["optimiser.rate"].value("5e-4")
        0.0005
        """
        where = self.key.replace(".", ": ")
        if isinstance(typed, str) and self.kind not in ("choice", "flag"):
            if not typed.strip() and (self.optional or self.kind == "rows"):
                typed = None if self.optional else []
            elif self.kind != "text":
                typed = from_yaml(typed, where)
        return plain(read_value(self.hint, typed, where))


NO_DEFAULT = "(needed)"


@cache
def recipe_fields() -> tuple[Field, ...]:
    """Every key of a recipe, sections' keys in the place of the section."""
    return tuple(_fields(Recipe, ""))


def by_key() -> Mapping[str, Field]:
    """`recipe_fields` by their keys."""
    return {field.key: field for field in recipe_fields()}


def sections() -> Mapping[str, type]:
    """The sections of a recipe, and what reads each."""
    hints = get_type_hints(Recipe)
    names = (field.name for field in dataclasses.fields(Recipe))
    return {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}


def about_section(kind: type) -> str:
    """What a section is, in a line."""
    return _plain((inspect.getdoc(kind) or "").partition("\n")[0])


def flat(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values by the keys of its fields."""
    data = plain(recipe)
    found = {}
    for field in recipe_fields():
        value: Any = data
        for part in field.key.split("."):
            value = value[part]
        found[field.key] = value
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The other way: what `plain.read` takes.

    >>> nested({"name": "a", "lora.rank": 8})
    {'name': 'a', 'lora': {'rank': 8}}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return found


def place_of(error: EarthMindError) -> str:
    """The key that an error is about, or a section; empty where it says none.

    >>> place_of(EarthMindError("lora: rank can't be -1."))
    'lora.rank'
    """
    places = [*by_key(), *sections()]
    for told in (error.asked, error.found):
        said = (told or "").removeprefix("recipe: ")
        fit = [key for key in places if _begins(said, key.replace(".", ": "))]
        if fit:
            return max(fit, key=len)
    return ""


def _begins(text: str, key: str) -> bool:
    rest = text.removeprefix(key)
    return rest is not text and rest != text and not rest[:1].isalnum() and rest[:1] != "_"


def _fields(kind: type, before: str) -> Iterator[Field]:
    hints, meanings = get_type_hints(kind), _meanings(kind)
    for field in dataclasses.fields(kind):
        hint, key = hints[field.name], before + field.name
        if dataclasses.is_dataclass(hint):
            yield from _fields(hint, key + ".")  # type: ignore[arg-type]
            continue
        bare, optional = _bare(hint)
        yield Field(
            key=key,
            meaning=_plain(meanings.get(field.name, "")),
            kind=_kind(bare),
            default=_default(field),
            choices=((None,) if optional else ()) + get_args(bare)
            if get_origin(bare) is Literal
            else (),
            optional=optional,
            hint=hint,
        )


def _bare(hint: Any) -> tuple[Any, bool]:
    """An annotation without its None, and whether it had one."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    (only,) = (each for each in get_args(hint) if each is not type(None))
    return only, True


def _kind(hint: Any) -> Kind:
    if get_origin(hint) is Literal:
        return "choice"
    if hint in (bool, str):
        return "flag" if hint is bool else "text"
    inner = get_args(hint)
    return "rows" if inner and dataclasses.is_dataclass(inner[0]) else "yaml"


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    return NO_DEFAULT


def _plain(text: str) -> str:
    """A text of the code as one line for people."""
    return " ".join(text.replace("`", "").split())


def _of_row(key: str) -> Any:
    """The default of a key of ``data``; what has it is not said."""
    from earthmind_lab.finetune.sections import Source

    return next(_default(field) for field in dataclasses.fields(Source) if field.name == key)


def _meanings(kind: type) -> dict[str, str]:
    """The text under each field of a class, which Python itself forgets."""
    (tree,) = ast.parse(inspect.cleandoc(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for declared, said in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(declared, ast.AnnAssign)
            and isinstance(declared.target, ast.Name)
            and isinstance(said, ast.Expr)
            and isinstance(said.value, ast.Constant)
        ):
            found[declared.target.id] = str(said.value.value)
    return found
