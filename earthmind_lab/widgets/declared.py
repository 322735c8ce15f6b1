"""What a user typed about files of their own, as arguments of `open_chip`.

>>> declared_of({"optical_scale": "1/255", "optical_offset": "0", "sar_scale": " dB ", "bands": ""})
{'optical_scale': 0.00392156862745098, 'optical_offset': 0.0, 'sar_scale': 'dB'}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from earthmind_lab.errors import LoadError

NUMBERS = ("optical_scale", "optical_offset", "nodata", "gsd")


def declared_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """Arguments without those that were left empty.

    Args:
        texts: By the name of the argument.

    Raises:
        LoadError: A number is none.
    """
    given = {name: text.strip() for name, text in texts.items() if text.strip()}
    return {name: _number(name, text) if name in NUMBERS else text for name, text in given.items()}


def _number(name: str, text: str) -> float:
    """A number, or one divided by another."""
    over, _, under = text.partition("/")
    try:
        found = float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        found = math.nan
    if not math.isfinite(found):
        raise LoadError(
            f"{name} is no number.", found=text[:40], change="0.0001, -0.1 or 1/255"
        ).asking(name)
    return found
