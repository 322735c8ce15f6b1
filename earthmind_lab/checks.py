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


def doctor(settings: Settings | None = None, *, catalogs: bool = False) -> Health:
    """Check Python, libraries, the embedded catalog and model, and the home folder.

    Args:
        settings: What to check against; the environment's by default.
        catalogs: Also ask every catalog that has a name of its own; nothing else of this needs
            the network.
    """
    settings = settings or Settings.from_env()
    checks: tuple[tuple[str, Callable[[], str], str], ...] = (
        ("python", _python, "Python 3.11 or later"),
        ("torch", lambda: _library("torch"), INSTALL),
        ("transformers", lambda: _library("transformers"), INSTALL),
        ("torchvision", _torchvision, "pip uninstall torchvision"),
        ("catalog", _catalog, REINSTALL),
        ("model", _model, REINSTALL),
        ("home", lambda: _home(settings.home), "EARTHMIND_HOME=a folder that can be written"),
    )
    here = tuple(_run(*check) for check in checks)
    return Health(checks=(*here, *_catalogs()) if catalogs else here)


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


def _home(home: Path) -> str:
    """Writable, without making anything: a look must leave no trace."""
    there = next(path for path in (home, *home.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{there} can't be written")
    return str(home)
