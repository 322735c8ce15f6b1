"""Does a known catalog answer, does it still hold its collections, are its keys set?

probe(known)   # "key: sentinel-2-l2a, sentinel-1-grd; CDSE_S3_ACCESS_KEY … set, not tried"
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import Budget, WebError
from earthmind_lab.data.known import Known
from earthmind_lab.data.links import Links
from earthmind_lab.data.web import Web
from earthmind_lab.errors import AccessDenied, CatalogUnavailable

SECONDS = 20.0
"""Time for one catalog: three small answers."""


def probe(known: Known, env: Mapping[str, str] | None = None, seconds: float = SECONDS) -> str:
    """Ask a catalog; no pixel is read, so a key is looked for and not tried.

    Args:
        known: The catalog.
        env: Where keys are looked up; the process's environment by default.
        seconds: Time for all answers together.

    Returns:
        What its pixels cost, its collections, and which of its keys are set: none need be, for
        whoever reads pixels elsewhere.

    Raises:
        AccessDenied: Only a part of what makes a key is set; the message names the rest.
        CatalogUnavailable: It doesn't answer, or a collection is gone.
    """
    web, budget = Web(Access.from_settings(known.url)), Budget(seconds)
    collections = (*known.optical, *known.sar)
    try:
        landing = web.get(known.url, budget=budget).json()
        lost = [
            name
            for name in collections
            if not _holds(web, f"{known.url}/collections/{quote(name)}", budget)
        ]
    except WebError as error:
        raise CatalogUnavailable(
            f"{known.access}: {known.title} does not answer.",
            found=str(error),
            change="try again later, or name another catalog",
        ) from error
    if lost or not isinstance(landing, Mapping) or landing.get("type") != "Catalog":
        raise CatalogUnavailable(
            f"{known.access}: {known.title} is not what it was.",
            found=f"no collection {' or '.join(lost)}" if lost else f"no STAC API at {known.url}",
            change="another catalog, or a newer earthmind-lab",
        )
    return f"{known.access}: {', '.join(collections)}{_keys(known, env)}"


def _holds(web: Web, url: str, budget: Budget) -> bool:
    try:
        web.get(url, budget=budget)
    except WebError as error:
        if error.kind == "missing":
            return False
        raise
    return True


def _keys(known: Known, env: Mapping[str, str] | None) -> str:
    env = Links().env if env is None else env
    lacking = [name for name in known.settings if not env.get(name)]
    names = " and ".join(known.settings)
    if lacking == [*known.settings]:
        return f"; to read its pixels, not set: {names}" if names else ""
    if lacking:
        raise AccessDenied(
            f"{known.access}: {known.title} can be searched, but its key is incomplete.",
            found=f"{' and '.join(lacking)} not set",
            change=f"set {' and '.join(lacking)}",
        )
    return f"; {names} set, not tried"
