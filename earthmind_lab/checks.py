"""Does this machine have what an answer needs? Each check with its remedy."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earthmind_lab.engine.preflight import preflight
from earthmind_lab.engine.room import Room, room_of
from earthmind_lab.engine.weights import PUBLISHED, Weights, dtypes_for, find_weights
from earthmind_lab.errors import EarthMindError
from earthmind_lab.settings import Settings

INSTALL = "pip install 'earthmind-lab[model]'"
REINSTALL = "install the package once more"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that an answer needs."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    remedy: str | None
    """What to do; None when nothing is to be done."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """The state of this machine."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the shape of the command line's JSON."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def doctor(
    settings: Settings | None = None,
    *,
    catalogs: bool = False,
    model: str | Path | None = None,
    look: Callable[[str], Room] | None = None,
) -> Health:
    """Check Python, libraries, the embedded catalog and model, the home folder and the devices.

    Args:
        settings: What to check against; the environment's by default.
        catalogs: Also ask every catalog that has a name of its own; nothing else of this needs
            the network.
        model: Must fit here, too: a published name (which needs no files for that), or the folder
            of a model. None: whether EarthMind-4B would fit is told, but fails no check.
        look: Tells the memory of a device; default: what is there.
    """
    look = look or room_of
    settings = settings or Settings.from_env()
    checks: tuple[tuple[str, Callable[[], str], str], ...] = (
        ("python", _python, "Python 3.11 or later"),
        ("torch", lambda: _library("torch"), INSTALL),
        ("transformers", lambda: _library("transformers"), INSTALL),
        ("torchvision", _torchvision, "pip uninstall torchvision"),
        ("catalog", _catalog, REINSTALL),
        ("model", _model, REINSTALL),
        ("home", lambda: _home(settings.home), "EARTHMIND_HOME=a folder that can be written"),
        ("shared servers", lambda: _shared(settings), "EARTHMIND_HOME=a folder of your own"),
    )
    here = tuple(_run(*check) for check in checks)
    devices = tuple(_device(name, look) for name in _device_names())
    fits = _fits(model, settings, look)
    return Health(checks=(*here, *devices, fits, *(_catalogs() if catalogs else ())))


def _run(name: str, look: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name=name, ok=True, detail=look(), remedy=None)
    except EarthMindError as error:
        return Check(name=name, ok=False, detail=str(error), remedy=error.change or remedy)
    except (ImportError, OSError, RuntimeError) as error:
        detail = f"{type(error).__name__}: {error}"
        return Check(name=name, ok=False, detail=detail, remedy=remedy)


def _python() -> str:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < (3, 11):  # noqa: UP036  what doctor is there to find out
        raise RuntimeError(version)
    return version


def _library(name: str) -> str:
    return f"{name} {importlib.import_module(name).__version__}"


def _torchvision() -> str:
    """A torchvision built for another torch breaks transformers' vision classes."""
    if importlib.util.find_spec("torchvision") is None:
        return "not installed, not needed"
    return f"{_library('torchvision')}, loads"


def _catalog() -> str:
    from earthmind_lab.data.catalogs import open_catalog

    catalog = open_catalog("sample")
    scenes = catalog.search()
    if not scenes:
        raise OSError("the embedded catalog holds no scene")
    if catalog.problems:
        raise OSError(f"{len(catalog.problems)} broken items, first: {catalog.problems[0]}")
    return f"{len(scenes)} scenes"


def _catalogs() -> list[Check]:
    """The public catalogs, asked at the same time; each row starts with what its pixels cost."""
    from earthmind_lab.data.known import KNOWN
    from earthmind_lab.data.probe import probe

    with ThreadPoolExecutor(len(KNOWN)) as lanes:
        return list(
            lanes.map(lambda known: _run(known.name, lambda: probe(known), known.url), KNOWN)
        )


def _model() -> str:
    from earthmind_lab.engine.loading import load_engine

    engine = load_engine("nano")
    return f"{engine.name} {engine.revision} on {engine.capabilities.device}"


def _shared(settings: Settings) -> str:
    """Who holds a model for all kernels of this user."""
    from earthmind_lab.engine.shared import running

    return "; ".join(map(str, running(settings))) or "none"


def _device_names() -> tuple[str, ...]:
    """Main memory, and every GPU that torch can use."""
    try:
        from earthmind_lab.model.opening import gpus

        return ("cpu", *gpus())
    except (ImportError, OSError, RuntimeError):  # the rows of the libraries say why
        return ("cpu",)


def _device(name: str, look: Callable[[str], Room]) -> Check:
    """What a device is and has; information, never a failure."""

    def seen() -> str:
        room = look(name)
        words = [room.name] if room.name else []
        return ", ".join([*words, str(room), f"{dtypes_for(PUBLISHED[0], name)[0]} for EarthMind"])

    check = _run(f"device {name}", seen, "")
    return Check(name=check.name, ok=True, detail=check.detail, remedy=None)


def _fits(model: str | Path | None, settings: Settings, look: Callable[[str], Room]) -> Check:
    """Whether a model would fit on the device that engines take."""

    def weights() -> Weights:
        return PUBLISHED[0] if model is None else find_weights(model)

    name = PUBLISHED[0].name if model is None else str(model)
    try:
        plan = preflight(weights(), _chosen(settings), look=look)
    except (EarthMindError, OSError, RuntimeError) as error:
        remedy = getattr(error, "change", None)
        return Check(name=name, ok=model is None, detail=str(error), remedy=remedy)
    # Who only wants to know whether their machine is well needs no account of the numbers.
    detail = str(plan) if plan.fits and model is None else f"{plan}. {' '.join(plan.explain())}"
    remedy = None if plan.fits else ", or ".join(plan.remedies)
    return Check(name=name, ok=plan.fits or model is None, detail=detail, remedy=remedy)


def _chosen(settings: Settings) -> str:
    """The device that engines take."""
    try:
        from earthmind_lab.model.opening import choose_device
    except ImportError:
        return "cpu"
    return choose_device(settings.device)


def _home(home: Path) -> str:
    """Writable, without making anything: a look must leave no trace."""
    there = next(path for path in (home, *home.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{there} can't be written")
    return str(home)
