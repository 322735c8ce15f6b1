"""What simulated ground looks like to both sensors: one row per material.

The rows are centred on medians that were measured on real pairs (Tanzania, Denmark, Chile, Spain,
Jiangsu, Punjab, Ireland, Finland, and ten SEN12MS-CR scenes), and checked against the embedded
scenes by `scripts/measure_classes.py`: docs/simulate.md has the numbers.
Surface reflectance comes from the L2A files where a class occurs there; elsewhere from the
L1C medians with the atmosphere of `simulate.py` taken off. Examples of the medians found (B, G, R,
NIR, SWIR1 | VV, VH dB):

    water, calm     toa  .094 .082 .075 .045 .017 | -21.4 -28.1     turbid river .145 .139 .127 .069
    water, windy    toa  .101 .095 .092 .059 .028 | -15.2 -23.5
    trees           sr   .026 .046 .040 .263 .157 |  -9.5 -15.9     humid forest -7.5 -13.4
    crops, green    sr   .045 .079 .057 .362 .194 | -10.5 -16.7
    grass           sr   .077 .107 .123 .250 .259 | -10.5 -17.2
    bare            sr   .118 .152 .186 .264 .316 | -11.9 -19.2
    built           toa  .159 .163 .184 .226 .247 |  -0.8 -13.5     Spain; SEN12MS-CR -1.5 -10.7
    snow            sr   .491 .421 .416 .520 .059 |  -8.2 -16.5     low sun; fresh snow is brighter

Each row below was set by hand around these medians, none is a fit. Roofs, sand, rock,
volcanic ground, fresh snow and ripe or flooded fields are the least certain, because the rules
behind the measurement cannot tell them apart.
"""

from dataclasses import dataclass

CLASSES = (
    "water", "trees", "crops", "built", "bare", "snow", "rangeland", "flooded vegetation",
)  # fmt: skip
"""Class names; the index is the number in `SimulatedScene.classes`. Pasture and rice under water
are farmland and count as crops, as pasture does in the truth of real scenes. Rangeland is natural
grass, heath and scrub. Flooded vegetation is reed, marsh, mangrove, and woods or fields in a
flood. Clouds are no class: `SimulatedScene.cloud` holds their opacity."""


Spectrum = tuple[float, float, float, float, float]
"""Reflectance in blue, green, red, NIR, SWIR1."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """One kind of ground."""

    kind: str
    """One of CLASSES."""
    reflectance: Spectrum
    """Surface reflectance in blue, green, red, NIR, SWIR1."""
    backscatter: tuple[float, float]
    """VV and VH in dB."""
    spread: float = 0.08
    """Relative spread of brightness from object to object (field to field, roof to roof)."""
    grain: float = 0.03
    """Relative brightness texture at about 30 m (crowns, rocks)."""
    smooth: float = 0.05
    """Relative brightness texture at some hundred metres."""
    green: float = 0.05
    """How much the greenness varies inside an object."""
    block: float = 0.0
    """Relative brightness texture of building size."""
    rows: float = 0.0
    """Relative brightness of straight rows."""
    bounce: float = 0.4
    """Texture of the backscatter in dB at building or crown size."""
    wind: float = 0.0
    """How much of the wind's rise of the backscatter it shows: 1 for open water."""
    height: float = 0.0
    """Metres above the ground, to the radar: eaves, and half of what porous crowns reach."""


def _water(reflectance: Spectrum, vv: float, vh: float) -> Material:
    return Material(kind="water", reflectance=reflectance, backscatter=(vv, vh),
                    grain=0.01, smooth=0.10, green=0.0, bounce=0.35, wind=1.0)  # fmt: skip


def _trees(reflectance: Spectrum, vv: float, vh: float, *, height: float = 9) -> Material:
    return Material(kind="trees", reflectance=reflectance, backscatter=(vv, vh),
                    grain=0.15, smooth=0.12, green=0.15, bounce=0.9, height=height)  # fmt: skip


def _crops(reflectance: Spectrum, vv: float, vh: float) -> Material:
    return Material(kind="crops", reflectance=reflectance, backscatter=(vv, vh), spread=0.12,
                    grain=0.03, smooth=0.06, green=0.11, rows=0.03, bounce=0.7)  # fmt: skip


def _built(reflectance: Spectrum, vv: float, vh: float,
           *, green: float = 0.1, block: float = 0.16,
           bounce: float = 3.0, height: float = 0.0) -> Material:  # fmt: skip
    return Material(kind="built", reflectance=reflectance, backscatter=(vv, vh), spread=0.18,
                    grain=0.05, smooth=0.03, green=green, block=block, bounce=bounce,
                    height=height)  # fmt: skip


def _bare(reflectance: Spectrum, vv: float, vh: float) -> Material:
    return Material(kind="bare", reflectance=reflectance, backscatter=(vv, vh),
                    grain=0.05, smooth=0.10, green=0.06, bounce=0.6)  # fmt: skip


def _snow(reflectance: Spectrum, vv: float, vh: float) -> Material:
    return Material(kind="snow", reflectance=reflectance, backscatter=(vv, vh),
                    grain=0.11, smooth=0.16, green=0.0, bounce=0.9)  # fmt: skip


def _grass(reflectance: Spectrum, vv: float, vh: float, *, kind: str = "rangeland") -> Material:
    return Material(kind=kind, reflectance=reflectance, backscatter=(vv, vh),
                    grain=0.09, smooth=0.13, green=0.19, bounce=0.8)  # fmt: skip


def _wetland(reflectance: Spectrum, vv: float, vh: float, *, height: float = 0.0) -> Material:
    # Stems over water answer twice: bright VV beside a dark SWIR.
    return Material(kind="flooded vegetation", reflectance=reflectance, backscatter=(vv, vh),
                    grain=0.09, smooth=0.12, green=0.14, bounce=0.9, height=height)  # fmt: skip


def _ship(reflectance: Spectrum) -> Material:
    # The class is that of the ground: a ship floats on water. Which pixels show it: `things`.
    return Material(kind="water", reflectance=reflectance, backscatter=(4.0, -5.0), spread=0.2,
                    grain=0.1, smooth=0.0, green=0.0, bounce=2.0)  # fmt: skip


MATERIALS: dict[str, Material] = {
    "sea": _water((0.040, 0.030, 0.013, 0.007, 0.004), -21.0, -28.0),
    "shallow": _water((0.070, 0.075, 0.040, 0.014, 0.006), -20.0, -27.5),
    "dark lake": _water((0.018, 0.019, 0.012, 0.012, 0.008), -20.5, -26.5),
    "green lake": _water((0.032, 0.055, 0.032, 0.026, 0.010), -20.5, -27.0),
    "turbid": _water((0.085, 0.108, 0.112, 0.062, 0.028), -20.0, -26.0),
    "flood": _water((0.032, 0.052, 0.052, 0.034, 0.014), -21.0, -27.8),
    "pond": _water((0.042, 0.060, 0.046, 0.034, 0.018), -20.7, -25.9),
    "broadleaf": _trees((0.020, 0.038, 0.024, 0.280, 0.140), -9.6, -15.5),
    "rainforest": _trees((0.016, 0.034, 0.021, 0.245, 0.130), -7.6, -13.8, height=13),
    "conifer": _trees((0.020, 0.034, 0.025, 0.190, 0.095), -9.9, -15.4),
    "dry wood": _trees((0.034, 0.052, 0.050, 0.195, 0.155), -10.3, -16.2, height=4),
    "autumn wood": _trees((0.036, 0.052, 0.062, 0.180, 0.150), -10.0, -16.2),
    "crop": _crops((0.034, 0.072, 0.042, 0.400, 0.195), -12.1, -17.1),
    "lush crop": _crops((0.030, 0.072, 0.034, 0.460, 0.200), -12.5, -17.0),
    "young crop": _crops((0.060, 0.090, 0.088, 0.260, 0.220), -11.3, -17.7),
    "ripe crop": _crops((0.080, 0.115, 0.145, 0.270, 0.285), -12.2, -18.2),
    "stubble": _crops((0.110, 0.150, 0.190, 0.280, 0.330), -11.9, -19.2),
    "ploughed": _crops((0.070, 0.092, 0.115, 0.170, 0.240), -11.1, -18.8),
    "dark soil": _crops((0.040, 0.052, 0.066, 0.105, 0.150), -11.5, -18.6),
    "paddy": _crops((0.050, 0.068, 0.062, 0.145, 0.070), -14.2, -20.7),
    "white roof": _built((0.270, 0.280, 0.290, 0.330, 0.330), -0.5, -11.5, green=0.04, height=9),
    "grey roof": _built((0.135, 0.152, 0.170, 0.212, 0.242), -0.6, -12.2, height=10),
    "tile roof": _built((0.095, 0.125, 0.178, 0.245, 0.275), -1.0, -12.8, height=8),
    "blue roof": _built((0.190, 0.180, 0.165, 0.230, 0.260), -0.5, -11.5, green=0.04, height=8),
    "suburb": _built((0.080, 0.104, 0.122, 0.232, 0.222), -3.8, -14.2, green=0.35, height=6),
    "village": _built((0.092, 0.118, 0.150, 0.232, 0.258), -4.0, -14.8, green=0.25, height=5),
    "yard": _built((0.140, 0.156, 0.176, 0.220, 0.255), -5.5, -16.5, bounce=2.5),
    "street": _built((0.085, 0.098, 0.108, 0.155, 0.170), -8.0, -18.0, block=0.1, bounce=2.0),
    "road": _built((0.100, 0.115, 0.125, 0.165, 0.190), -13.0, -22.0, block=0.03, bounce=0.5),
    "soil": _bare((0.090, 0.120, 0.158, 0.220, 0.290), -13.1, -20.8),
    "red soil": _bare((0.066, 0.100, 0.168, 0.248, 0.335), -14.1, -21.9),
    "sand": _bare((0.170, 0.230, 0.290, 0.360, 0.450), -16.0, -24.5),
    "rock": _bare((0.110, 0.130, 0.148, 0.185, 0.230), -10.7, -18.6),
    "bright rock": _bare((0.190, 0.220, 0.250, 0.290, 0.330), -11.3, -19.5),
    "lava": _bare((0.045, 0.055, 0.068, 0.095, 0.130), -11.5, -19.2),
    "track": _bare((0.120, 0.155, 0.200, 0.270, 0.340), -14.0, -21.5),
    "fresh snow": _snow((0.860, 0.850, 0.830, 0.780, 0.100), -9.8, -17.8),
    "old snow": _snow((0.500, 0.455, 0.445, 0.480, 0.058), -8.4, -16.6),
    "wet snow": _snow((0.660, 0.640, 0.610, 0.520, 0.050), -14.5, -21.5),
    "pasture": _grass((0.040, 0.076, 0.048, 0.340, 0.205), -12.6, -18.2, kind="crops"),
    "meadow": _grass((0.058, 0.088, 0.086, 0.260, 0.230), -11.8, -17.8),
    "dry grass": _grass((0.078, 0.108, 0.142, 0.232, 0.305), -13.2, -19.3),
    "savanna": _grass((0.056, 0.080, 0.102, 0.205, 0.255), -12.4, -18.2),
    "alpine grass": _grass((0.048, 0.076, 0.076, 0.235, 0.205), -11.6, -17.8),
    "scrub": _grass((0.048, 0.068, 0.082, 0.195, 0.215), -11.6, -17.5),
    "heath": _grass((0.036, 0.052, 0.060, 0.185, 0.170), -12.4, -18.5),
    "reed": _wetland((0.040, 0.060, 0.058, 0.200, 0.130), -9.6, -16.4),
    "marsh": _wetland((0.044, 0.062, 0.058, 0.150, 0.090), -9.0, -16.6),
    "mangrove": _wetland((0.022, 0.042, 0.026, 0.240, 0.085), -7.6, -13.8, height=4),
    "flooded wood": _wetland((0.022, 0.036, 0.026, 0.185, 0.075), -6.2, -13.2, height=8),
    "flooded crop": _wetland((0.040, 0.060, 0.054, 0.165, 0.085), -8.6, -16.2),
    "ship": _ship((0.16, 0.16, 0.17, 0.17, 0.17)),
    "red ship": _ship((0.09, 0.09, 0.18, 0.20, 0.20)),
    "white ship": _ship((0.38, 0.38, 0.38, 0.37, 0.32)),
}
"""Materials by name; see the module docstring for how they were measured."""

NAMES = tuple(MATERIALS)
