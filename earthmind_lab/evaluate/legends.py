"""The nine classes that are scored, and what the codes and names of maps mean in them.

    >>> class_of("Tree cover"), class_of("Pastures"), class_of("Moss and lichen") is None
    ('trees', 'crops', True)
    >>> CODES["worldcover"][80], CODES["esri"][5], CODES["corine"][512]
    ('water', 'crops', 'water')

A code that fits none of the nine, or more than one, is None: its pixels are unknown, neither yes
nor no. The judgements that somebody else could make otherwise: pasture is farmland (crops), rice
fields too; vineyards are crops while orchards and olive groves may be trees (None); mangroves and
marshes are flooded vegetation; shrub, heath and natural grass are rangeland, as in Esri's map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

CLASSES = (
    "water", "trees", "crops", "built-up areas", "bare ground", "snow",
    "flooded vegetation", "clouds", "rangeland",
)  # fmt: skip
"""What is scored, by the words that questions use; the order of every array in `evaluate`."""
TRANSIENT = frozenset({"snow", "clouds"})
"""Come and go within days: a map of a year that leaves them out says nothing about a picture."""

SOURCES = {
    "worldcover": "ESA WorldCover 10 m v200 (2021), product user manual, table of classes",
    "esri": "Esri / Impact Observatory 10 m annual land use and land cover, 9 classes",
    "terramesh": "TerraMesh's numbering of the Esri / Impact Observatory map (embedded catalog)",
    "corine": "CORINE Land Cover, nomenclature of 44 classes at level 3",
    "corine_raster": "the same, 1 to 44 in the order of level 3, as CORINE's rasters number them",
}
"""Where each legend is defined."""

_MIXED_FARMLAND = (
    "land principally occupied by agriculture, with significant areas of natural vegetation"
)
_TABLE: dict[str, Mapping[int, tuple[str, str | None]]] = {
    "worldcover": {
        10: ("tree cover", "trees"), 20: ("shrubland", "rangeland"), 30: ("grassland", "rangeland"),
        40: ("cropland", "crops"), 50: ("built-up", "built-up areas"),
        60: ("bare / sparse vegetation", "bare ground"), 70: ("snow and ice", "snow"),
        80: ("permanent water bodies", "water"), 90: ("herbaceous wetland", "flooded vegetation"),
        95: ("mangroves", "flooded vegetation"), 100: ("moss and lichen", None),
    },
    "esri": {
        0: ("no data", None), 1: ("water", "water"), 2: ("trees", "trees"),
        4: ("flooded vegetation", "flooded vegetation"), 5: ("crops", "crops"),
        7: ("built area", "built-up areas"), 8: ("bare ground", "bare ground"),
        9: ("snow/ice", "snow"), 10: ("clouds", None), 11: ("rangeland", "rangeland"),
    },
    "terramesh": {
        0: ("no data", None), 1: ("water", "water"), 2: ("trees", "trees"),
        3: ("flooded vegetation", "flooded vegetation"), 4: ("crops", "crops"),
        5: ("built area", "built-up areas"), 6: ("bare ground", "bare ground"),
        7: ("snow or ice", "snow"), 8: ("clouds", None), 9: ("rangeland", "rangeland"),
    },
    "corine": {
        111: ("continuous urban fabric", "built-up areas"),
        112: ("discontinuous urban fabric", "built-up areas"),
        121: ("industrial or commercial units", "built-up areas"),
        122: ("road and rail networks and associated land", "built-up areas"),
        123: ("port areas", "built-up areas"), 124: ("airports", None),
        131: ("mineral extraction sites", None), 132: ("dump sites", None),
        133: ("construction sites", None), 141: ("green urban areas", None),
        142: ("sport and leisure facilities", None),
        211: ("non-irrigated arable land", "crops"), 212: ("permanently irrigated land", "crops"),
        213: ("rice fields", "crops"), 221: ("vineyards", "crops"),
        222: ("fruit trees and berry plantations", None), 223: ("olive groves", None),
        231: ("pastures", "crops"), 241: ("annual crops associated with permanent crops", "crops"),
        242: ("complex cultivation patterns", "crops"),
        243: (_MIXED_FARMLAND, None),
        244: ("agro-forestry areas", None), 311: ("broad-leaved forest", "trees"),
        312: ("coniferous forest", "trees"), 313: ("mixed forest", "trees"),
        321: ("natural grassland", "rangeland"), 322: ("moors and heathland", "rangeland"),
        323: ("sclerophyllous vegetation", "rangeland"),
        324: ("transitional woodland/shrub", None),
        331: ("beaches, dunes, sands", "bare ground"), 332: ("bare rock", "bare ground"),
        333: ("sparsely vegetated areas", "bare ground"), 334: ("burnt areas", None),
        335: ("glaciers and perpetual snow", "snow"),
        411: ("inland marshes", "flooded vegetation"), 412: ("peatbogs", None),
        421: ("salt marshes", "flooded vegetation"), 422: ("salines", None),
        423: ("intertidal flats", None), 511: ("water courses", "water"),
        512: ("water bodies", "water"), 521: ("coastal lagoons", "water"),
        522: ("estuaries", "water"), 523: ("sea and ocean", "water"),
    },
}  # fmt: skip
_MAYBE: Mapping[str, tuple[str, ...]] = {
    "airports": ("built-up areas", "rangeland"),
    "mineral extraction sites": ("bare ground", "water"),
    "dump sites": ("bare ground",),
    "construction sites": ("built-up areas", "bare ground"),
    "green urban areas": ("trees", "rangeland", "built-up areas"),
    "sport and leisure facilities": ("built-up areas", "rangeland", "trees"),
    "fruit trees and berry plantations": ("crops", "trees"),
    "olive groves": ("crops", "trees"),
    _MIXED_FARMLAND: ("crops", "trees", "rangeland"),
    "agro-forestry areas": ("crops", "trees", "rangeland"),
    "transitional woodland/shrub": ("trees", "rangeland"),
    "burnt areas": ("bare ground", "rangeland", "trees"),
    "peatbogs": ("flooded vegetation", "rangeland", "water"),
    "salines": ("water", "bare ground"),
    "intertidal flats": ("water", "bare ground", "flooded vegetation"),
    "moss and lichen": ("rangeland", "bare ground"),
}  # fmt: skip
"""What a name without a class of its own may hold; a name that isn't known may hold anything."""

_TABLE["corine_raster"] = dict(enumerate(_TABLE["corine"].values(), start=1))
CODES: Mapping[str, Mapping[int, str | None]] = {
    legend: {code: found for code, (_, found) in rows.items()} for legend, rows in _TABLE.items()
}
"""Code to class, by legend."""
_WORDS = {
    "water": r"water|lakes?|rivers?|sea|ocean|flood(?:ed|ing|s)?(?! vegetation)",
    "trees": r"trees?|forests?|woodlands?|woods",
    "crops": r"crops?|croplands?|farmlands?|fields?|agricultur\w+",
    "built-up areas": r"built[- ]?up|built area|buildings?|houses|settlements?|urban|towns?",
    "bare ground": r"bare|sand",
    "snow": r"snow|ice",
    "flooded vegetation": r"flooded vegetation|wetlands?|marsh(?:es)?|mangroves?",
    "clouds": r"clouds?",
    "rangeland": r"rangelands?|grasslands?|shrublands?|scrub",
}
_SAID = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in _WORDS.items()}


def class_of(name: str) -> str | None:
    """The class that a legend's name means; None for no class or more than one.

    >>> class_of("built_area"), class_of("Snow/ice"), class_of("Peatbogs")
    ('built-up areas', 'snow', None)
    """
    return _NAMES.get(_plain(name))


def possible(name: str) -> frozenset[str]:
    """Every class that ground of a legend's name may hold.

    >>> sorted(possible("Olive groves")), sorted(possible("Rice fields"))
    (['crops', 'trees'], ['crops'])
    """
    one = class_of(name)
    if one is not None:
        return frozenset({one})
    return frozenset(_MAYBE.get(_plain(name), CLASSES))


def legend_of(asset: Mapping[str, Any]) -> dict[int, str | None] | None:
    """Code to class of a label raster, from ``classification:classes`` or ``file:values``.

    Args:
        asset: Of a STAC item, as plain data.

    Returns:
        None where the asset declares neither. A code called "not …" or "background" maps to the
        empty string: known to be none of the other classes.
    """
    found: dict[int, str | None] = {}
    bands = asset.get("raster:bands") or asset.get("bands") or []
    sources = [asset, *(each for each in bands if isinstance(each, Mapping))]
    for source in sources:
        for row in source.get("classification:classes") or ():
            found[int(row["value"])] = _meaning(str(row.get("name") or row.get("description")))
        for row in () if found else source.get("file:values") or ():
            found |= {int(value): _meaning(str(row["summary"])) for value in row["values"]}
    return found or None


def named(text: str, among: Iterable[str] = CLASSES) -> tuple[str, ...]:
    """The classes that a text names, in its order.

    >>> named("Mostly flooded vegetation, with some forest.")
    ('flooded vegetation', 'trees')
    """
    spots = {name: _SAID[name].search(text) for name in among}
    places = sorted((match.start(), name) for name, match in spots.items() if match)
    return tuple(name for _, name in places)


def key_of(label: str) -> str | None:
    """The class that a model calls by a word of its own: ``built`` or ``built-up areas``.

    >>> key_of("built"), key_of("bare"), key_of("ship") is None
    ('built-up areas', 'bare ground', True)
    """
    plain = label.strip().lower()
    if plain in CLASSES:
        return plain
    short = {"built": "built-up areas", "bare": "bare ground"}
    return short.get(plain) or class_of(plain) or (named(plain) or (None,))[0]


def _meaning(name: str) -> str | None:
    return "" if re.match(r"not |background$|other$", _plain(name)) else class_of(name)


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name.strip().lower())


_NAMES: dict[str, str | None] = {
    **{name: found for rows in _TABLE.values() for name, found in rows.values()},
    **{name: name for name in CLASSES if name != "clouds"},
    # Other spellings of the same classes.
    "snow or ice": "snow", "snow & ice": "snow", "snow and ice": "snow", "ice": "snow",
    "bare": "bare ground", "barren": "bare ground", "built": "built-up areas",
    "built-up": "built-up areas", "built up": "built-up areas", "urban": "built-up areas",
    "forest": "trees", "tree": "trees", "permanent water": "water", "open water": "water",
    "wetland": "flooded vegetation", "grass": "rangeland", "shrub": "rangeland",
    "beaches, dunes, and sand plains": "bare ground", "salt marsh": "flooded vegetation",
}  # fmt: skip
