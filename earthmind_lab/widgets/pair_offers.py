"""What the form of a search offers: catalogs with what they need, sensors, purposes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from earthmind_lab.data.gaps import TAU_DAYS
from earthmind_lab.data.known import KNOWN, Known
from earthmind_lab.sensors import SENSORS

SAMPLE = "embedded, needs no network"
_PURPOSES = {"default": "any", "flood": "flood", "settlement": "settlement"}


def offers(env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Everything that can be chosen by name.

    Args:
        env: Where keys are looked up; the process's environment by default.

    Returns:
        ``catalogs`` (``name``, ``title``, ``state``), ``sensors`` (``key``, ``title``) and
        ``purposes`` (``name``, ``title``).
    """
    given = os.environ if env is None else env
    known = [{"name": k.name, "title": k.title, "state": state_of(k, given)} for k in KNOWN]
    sample = {"name": "sample", "title": "Sample scenes", "state": SAMPLE}
    return {
        "catalogs": [sample, *known],
        "sensors": [{"key": key, "title": sensor.title} for key, sensor in SENSORS.items()],
        "purposes": [
            {"name": name, "title": f"{title}: a gap counts over {TAU_DAYS[name]:g} d"}
            for name, title in _PURPOSES.items()
        ],
    }


def state_of(known: Known, env: Mapping[str, str]) -> str:
    """What a catalog needs that this machine lacks; whether a key is right is not tried.

    >>> [state_of(known, {"EARTHDATA_TOKEN": "x"}) for known in KNOWN if not known.optical]
    ['needs network; key set']
    >>> [state_of(known, {}) for known in KNOWN if not known.optical]
    ['needs network and a key: EARTHDATA_TOKEN']
    """
    if not known.settings:
        return "needs network"
    lacking = [name for name in known.settings if not env.get(name)]
    if not lacking:
        return "needs network; key set"
    part = " for SAR" if known.access == "requester-pays" else ""
    return f"needs network and a key{part}: {' and '.join(lacking)}"
