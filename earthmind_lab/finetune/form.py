"""RecipeForm: a recipe as a form in a notebook; Save writes its YAML, Start trains by it.

Its fields are those that `fields` finds in `Recipe`; it has no list of its own. The training runs
beside the notebook, so that Stop works in every front end and cells can be run meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.examples import Examples
from earthmind_lab.finetune.fields import (
    Field,
    about_section,
    flat,
    nested,
    place_of,
    recipe_fields,
    sections,
)
from earthmind_lab.finetune.live import LiveView, view_of
from earthmind_lab.finetune.outcome import Run
from earthmind_lab.finetune.plain import read
from earthmind_lab.finetune.recipe import Recipe, built_in
from earthmind_lab.kernel import remind_kernel

WIDE = {"width": "22em"}
RED = "#b00020"
"""Of what is wrong; on white 7.3 to 1."""
AS_IT_IS = "as the model or the machine says"
TOP = "recipe"
"""Title of the keys that stand in no section."""


class RecipeForm:
    """A recipe as a form.

    Args:
        recipe: What it shows at first: a recipe, the name of a built-in one, or a file.
        out: Folder of the run that Start begins, or goes on with; it can be typed, too.
        sets: ``train``, ``validation``, ``guard``, ``test`` of `finetune`, where they aren't the
            recipe's own.

    Attributes:
        inputs: The input of each key.
        errors: Under each key, what is wrong with it; under a section or ``""`` the rest.
        view: Of the training that Start began.
        widget: What is displayed.
    """

    def __init__(
        self, recipe: Recipe | str | Path = "few", *, out: str | Path = "", **sets: Examples | None
    ) -> None:
        remind_kernel()
        self._sets, self._quiet = sets, False
        self.view: LiveView | None = None
        self._run: Run | None = None
        self._failed: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.inputs = {field.key: _input(field) for field in recipe_fields()}
        places = ("", *sections(), *self.inputs)
        self.errors = {place: ipywidgets.HTML(style={"text_color": RED}) for place in places}
        names = built_in()
        self.begin_from = ipywidgets.Dropdown(options=names, value=None, description="Begin from")
        self.save_to = ipywidgets.Text("recipe.yaml", description="File", layout=WIDE)
        self.out = ipywidgets.Text(str(out), description="Run folder", layout=WIDE)
        self.save_button = ipywidgets.Button(description="Save as YAML", icon="save")
        self.start_button = ipywidgets.Button(
            description="Start", icon="play", button_style="primary"
        )
        self._to_mend, self._said = ipywidgets.HTML(), ipywidgets.HTML()
        self._below = ipywidgets.VBox()
        self.widget = self._arranged()
        self.set(recipe)
        self.begin_from.observe(lambda change: self.set(change["new"]), "value")
        self.save_button.on_click(lambda _: self._acted(self._save))
        self.start_button.on_click(lambda _: self._acted(self.start))
        for each in self.inputs.values():
            each.observe(self._changed, "value")

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)  # type: ignore[no-untyped-call]

    # --- the recipe -----------------------------------------------------------------------------

    def set(self, recipe: Recipe | str | Path) -> None:
        """Show another recipe."""
        recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
        values = flat(recipe)
        self._quiet = True
        try:
            for field in recipe_fields():
                value = values[field.key]
                typed = field.kind in ("text", "yaml", "rows")
                self.inputs[field.key].value = field.text(value) if typed else value
        finally:
            self._quiet = False
        self.check()

    @property
    def recipe(self) -> Recipe:
        """What the form says.

        Raises:
            EarthMindError: Something in it can't be; the form shows it, too.
        """
        recipe, wrong = self._read()
        if recipe is None:
            raise next(iter(wrong.values()))
        return recipe

    def check(self) -> bool:
        """Say what is wrong, where it is; whether nothing is."""
        _, wrong = self._read()
        for place, shown in self.errors.items():
            shown.value = escape(str(wrong[place]), quote=False) if place in wrong else ""
        places = ", ".join(f"<code>{place}</code>" for place in wrong if place)
        self._to_mend.value = f"To be mended: {places}" if places else ""
        self.save_button.disabled = bool(wrong)
        self.start_button.disabled = bool(wrong) or self.running
        return not wrong

    def _read(self) -> tuple[Recipe | None, dict[str, EarthMindError]]:
        """The recipe, or what is wrong with each key, section, or with the whole."""
        values: dict[str, Any] = {}
        wrong: dict[str, EarthMindError] = {}
        for field in recipe_fields():
            try:
                values[field.key] = field.value(self.inputs[field.key].value)
            except EarthMindError as error:
                wrong[field.key] = error
        data, bad = nested(values), {key.partition(".")[0] for key in wrong if "." in key}
        for name, kind in sections().items():
            if name not in bad:
                wrong |= _wrong(kind, data[name], name)
        found = {} if wrong else _wrong(Recipe, data, "recipe")
        return (None, wrong | found) if wrong or found else (read(Recipe, data, "recipe"), {})

    # --- the training ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the training that Start began goes on."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Train beside the notebook, or go on with a training in the folder.

        Raises:
            EarthMindError: The recipe can't be, no folder is named, or one is trained already.
        """
        recipe, out = self.recipe, self.out.value.strip()
        if not out:
            raise EarthMindError("The run needs a folder.", change="type one beside Start")
        if self.running:
            raise EarthMindError("A training of this form goes on.", change="Stop, or wait")
        self.view = view = view_of(recipe, Path(out))
        self._below.children = (view.widget,)
        self._run = self._failed = None
        self.start_button.disabled = True
        work = threading.Thread(
            target=self._train, args=(recipe, out, view), name="earthmind-training", daemon=True
        )
        self._thread = work
        work.start()

    def wait(self, timeout: float | None = None) -> Run:
        """The run, once its training has ended.

        Args:
            timeout: Most seconds; None = as long as it takes.

        Raises:
            EarthMindError: It was never started, takes longer, or could not be trained.
        """
        if self._thread is None:
            raise EarthMindError("Nothing was started.", change="Start")
        self._thread.join(timeout)
        if self._failed is not None:
            raise self._failed
        if self._run is None:
            raise EarthMindError("The training goes on.", change="a longer timeout")
        return self._run

    def _train(self, recipe: Recipe, out: str, view: LiveView) -> None:
        from earthmind_lab.finetune.run import finetune

        try:
            sets: Any = self._sets
            self._run = finetune(recipe, out=out, watch=[view], **sets)
        except BaseException as error:  # noqa: BLE001 - `wait` raises it; the view says it
            self._failed = error
            kind = "" if isinstance(error, EarthMindError) else f"{type(error).__name__}: "
            view.ended(f"{kind}{error}")
        finally:
            self.start_button.disabled = False

    def _save(self) -> None:
        try:
            path = self.recipe.save(self.save_to.value)
        except OSError as error:
            raise EarthMindError(
                f"The recipe can't be written to {self.save_to.value}.", found=str(error)
            ) from error
        self._said.value = f"Wrote {escape(str(path))}"

    # --- the page -------------------------------------------------------------------------------

    def _acted(self, act: Callable[[], None]) -> None:
        """A button; what can't be done is said beside it."""
        self._said.value = ""
        try:
            act()
        except EarthMindError as error:
            self._said.value = _red(error)

    def _changed(self, _: Mapping[str, Any]) -> None:
        if not self._quiet:
            self.check()

    def _arranged(self) -> Any:
        titles, pages = [f"{TOP}: What is trained on what, and how long."], []
        titles += [f"{name}: {about_section(kind)}" for name, kind in sections().items()]
        for section in (TOP, *sections()):
            rows = [self.errors["" if section == TOP else section]]
            for field in recipe_fields():
                if (field.section or TOP) == section:
                    rows += [_row(field, self.inputs[field.key]), self.errors[field.key]]
            pages.append(ipywidgets.VBox(rows))
        return ipywidgets.VBox(
            [
                self.begin_from,
                ipywidgets.Accordion(pages, titles=titles, selected_index=0),
                self._to_mend,
                ipywidgets.HBox([self.save_to, self.save_button]),
                ipywidgets.HBox([self.out, self.start_button]),
                self._said,
                self._below,
            ]
        )


def _input(field: Field) -> Any:
    """The input of a key."""
    if field.kind == "choice":
        options = [(AS_IT_IS if c is None else str(c) or "none", c) for c in field.choices]
        return ipywidgets.Dropdown(options=options, layout=WIDE)
    if field.kind == "flag":
        return ipywidgets.Checkbox(indent=False, layout=WIDE)
    if field.kind == "rows":
        return ipywidgets.Textarea(rows=2, placeholder="- path: train.json", layout=WIDE)
    return ipywidgets.Text(layout=WIDE, placeholder=AS_IT_IS if field.optional else "")


def _row(field: Field, own: Any) -> Any:
    name = ipywidgets.HTML(f"<code>{escape(field.key)}</code>", layout={"width": "14em"})
    default = field.text(field.default) or (AS_IT_IS if field.optional else "nothing")
    words = f"{escape(field.meaning)} <i>Default: {escape(default)}</i>"
    about = ipywidgets.HTML(f"<small style='line-height:1.2'>{words}</small>",
                            layout={"flex": "1"})  # fmt: skip
    return ipywidgets.HBox([name, own, about], layout={"width": "100%"})


def _wrong(kind: type, data: Any, where: str) -> dict[str, EarthMindError]:
    """What keeps plain data from being a section or a recipe, by the key that it is about."""
    try:
        read(kind, data, where)
    except EarthMindError as error:
        place = place_of(error)
        return {place if place.startswith(where) or kind is Recipe else where: error}
    return {}


def _red(error: EarthMindError) -> str:
    return f"<span style='color:{RED}'>{escape(str(error))}</span>"
