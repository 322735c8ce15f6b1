"""The options of the command line, in groups that verbs share."""

from __future__ import annotations

import argparse
import math
import re

OWN = (
    "optical", "sar", "bands", "optical_scale", "optical_offset", "sar_quantity", "sar_scale",
)  # fmt: skip
"""Options of `own` that go to `open_chip` as they are."""


def folder(parser: argparse.ArgumentParser) -> None:
    """Of ``lab``."""
    parser.add_argument("--folder", metavar="DIR", help="where to work; gets the notebook")


def page(parser: argparse.ArgumentParser) -> None:
    """Of what a browser opens."""
    parser.add_argument("--port", type=int, help="on 127.0.0.1")
    parser.add_argument("--no-browser", action="store_true", help="only serve")


def serve(parser: argparse.ArgumentParser) -> None:
    """Of ``serve``."""
    parser.add_argument(
        "--model", default="nano", metavar="M", help="what is served; default %(default)s"
    )
    parser.add_argument(
        "--adapter", metavar="FOLDER", dest="adapters", action="append", default=[],
        help="of a trained adapter to load on it; repeatable; clients choose MODEL:NAME",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H",
        help="address to listen on; another than loopback lets other machines in, who need the "
        "token; default %(default)s",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="default %(default)s; 0 = any")
    parser.add_argument(
        "--name", metavar="HOST", dest="names", action="append", default=[],
        help="a further name under which it may be asked, that of a proxy with TLS before it; "
        "repeatable",
    )  # fmt: skip
    parser.add_argument("--uds", metavar="PATH", help="a unix socket for this user instead")
    parser.add_argument(
        "--token", metavar="T",
        help="what clients must bring; better in EARTHMIND_TOKEN, which other users can't read; "
        "default: a new one in a file",
    )  # fmt: skip
    parser.add_argument("--no-token", action="store_true", help="answer every user of this machine")
    parser.add_argument(
        "--idle", metavar="S", type=_seconds,
        help="end after so many seconds without a request; default: never",
    )  # fmt: skip
    parser.add_argument(
        "--stop", action="store_true",
        help="serve nothing: end the servers that load_engine(shared=True) has started",
    )  # fmt: skip
    parser.add_argument(
        "--replicas", metavar="N", type=_replicas,
        help="so many copies of the model, each in a process of its own, kept by Ray; 1-4: as many "
        "as there is to do; default: one, in this process, without Ray",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", metavar="G", type=_share,
        help="of each replica, 0.5 allowed; default: 1 where there are any",
    )  # fmt: skip
    parser.add_argument(
        "--ray", metavar="ADDRESS",
        help="of a Ray cluster for the replicas, auto or host:port; default: this machine alone",
    )  # fmt: skip


def place(parser: argparse.ArgumentParser) -> None:
    """What finds a pair."""
    group = parser.add_argument_group("place and time")
    group.add_argument(
        "--aoi", metavar="AREA", help="W,S,E,N in degrees, or a GeoJSON or GeoPackage file"
    )
    group.add_argument("--dates", metavar="A/B", help="first and last UTC day")
    group.add_argument("--around", metavar="DATE", help="day or UTC time that pairs should be near")
    group.add_argument(
        "--catalog", metavar="C", action="append",
        help="sample, a catalog.json, a frozen search, a .parquet file, or a STAC API by name or "
        "address; repeat to try in order",
    )  # fmt: skip
    group.add_argument(
        "--sensors", metavar="S", default="optical,sar",
        help="optical, sar or both, or keys of sensors such as landsat-c2-l2,sentinel-1-rtc; "
        "default %(default)s",
    )  # fmt: skip
    group.add_argument(
        "--max-gap", metavar="TIME", default="6 days",
        help="between the two scenes; default %(default)s",
    )  # fmt: skip
    group.add_argument(
        "--max-cloud", metavar="P", default=20.0, type=float,
        help="per cent of cloud and shadow inside the AOI; default %(default)g",
    )  # fmt: skip
    group.add_argument(
        "--gsd", metavar="M", type=_metres, help="pixel size in m; default: the optical scene's"
    )
    group.add_argument(
        "--purpose", metavar="P", default="default",
        help="flood, default or settlement: how fast a time gap costs score",
    )  # fmt: skip
    group.add_argument(
        "--deadline", metavar="S", type=_seconds, default=120.0,
        help="seconds that search and load may take, each; default %(default)g",
    )  # fmt: skip
    group.add_argument("--pin", metavar="ID", action="append", help="use this scene; repeatable")
    group.add_argument("--exclude", metavar="ID", action="append", help="not this one; repeatable")


def every(parser: argparse.ArgumentParser) -> None:
    """Of ``search``: what it turned down."""
    about = "rejected candidates, too, each with its reason"
    parser.add_argument("--all", action="store_true", help=about)


def freeze(parser: argparse.ArgumentParser) -> None:
    """Of ``search``: what it found, to carry away."""
    about = "write what was found to a file that is a catalog and needs no network"
    parser.add_argument("--freeze", metavar="FILE", help=about)


def catalogs(parser: argparse.ArgumentParser) -> None:
    """Of ``doctor``."""
    about = "also ask the public catalogs, over the network"
    parser.add_argument("--catalogs", action="store_true", help=about)


def fits(parser: argparse.ArgumentParser) -> None:
    """Of ``doctor``: a model that this machine must have room for."""
    about = "must fit here, too: EarthMind-4B, or the folder of a model; default: only told"
    parser.add_argument("--model", metavar="M", help=about)


def _metres(text: str) -> float:
    """A pixel size."""
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no pixel size in metres")
    return value


def _seconds(text: str) -> float:
    """A time limit."""
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def own(parser: argparse.ArgumentParser) -> None:
    """Own files instead of scenes of a catalog; each says what `open_chip` calls it."""
    group = parser.add_argument_group("own files instead of dates and a catalog")
    group.add_argument("--optical", metavar="F", help="a georeferenced file")
    group.add_argument("--sar", metavar="F", help="a georeferenced file; may be the same")
    group.add_argument(
        "--bands", metavar="B", help="red,nir,vv in the file's order, or red=3,nir=4 by number"
    )
    group.add_argument(
        "--optical-scale", metavar="X", type=float, help="reflectance per number in the file"
    )
    group.add_argument("--optical-offset", metavar="X", type=float, help="added to number x scale")
    group.add_argument(
        "--sar-quantity", choices=("sigma0", "gamma0", "gamma0_rtc"), help="which backscatter"
    )
    group.add_argument("--sar-scale", choices=("dB", "power", "amplitude"), help="of its numbers")
    group.add_argument(
        "--time", metavar="T", action="append",
        help="when they were taken: an instant, a day or A/B; optical=… and sar=… apart",
    )  # fmt: skip


def pair(parser: argparse.ArgumentParser) -> None:
    """Which of the pairs."""
    parser.add_argument(
        "--pair", type=int, default=1, metavar="N", help="rank of the pair; default 1"
    )


def out(parser: argparse.ArgumentParser) -> None:
    """Where files go."""
    parser.add_argument("--out", metavar="DIR", help="folder to write files into")


def ask(parser: argparse.ArgumentParser) -> None:
    """Of ``ask``."""
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument(
        "--model",
        default="nano",
        metavar="M",
        help="nano, EarthMind-4B, EarthMind-4B-multi, the folder of a model, or the address of "
        "a server (http://host:8000)",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="for sampling")
    parser.add_argument(
        "--region", metavar="AREA", action="append",
        help="a place to ask about, as --aoi takes it; in the question it is region1; repeatable",
    )  # fmt: skip
    parser.add_argument("--image", metavar="F", help="a plain picture instead of a place")
    parser.add_argument("--bundle", metavar="FILE", help="the chips of a bundle instead of a place")


def bundle(parser: argparse.ArgumentParser) -> None:
    """Of ``chip``: a copy to carry away."""
    about = "zip to write: the chip with its scenes, for a machine without network"
    parser.add_argument("--bundle", metavar="FILE", help=about)


def cache(parser: argparse.ArgumentParser) -> None:
    """Of ``cache``."""
    parser.add_argument("--clear", action="store_true", help="remove every kept chip and array")
    parser.add_argument("--verify", action="store_true", help="read each, remove the damaged")


def convert(parser: argparse.ArgumentParser) -> None:
    """Of ``convert``."""
    parser.add_argument("source", metavar="SRC", help="folder of a checkpoint, alias or hub id")
    parser.add_argument("target", metavar="DST", help="folder to write; must not exist yet")
    parser.add_argument("--to", choices=("ours", "published"), default="ours", help="layout")
    parser.add_argument(
        "--fusion", choices=("concatenate", "weighted"), help="how it was trained to join sensors"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: as in SRC"
    )
    about = "read .bin files, tensors only, in a process of its own"
    parser.add_argument("--unsafe-bin", action="store_true", help=about)


def evaluate(parser: argparse.ArgumentParser) -> None:
    """Of ``evaluate``."""
    parser.add_argument(
        "task", choices=("presence", "landcover"),
        help="yes or no per class; or masks per class and the main cover",
    )  # fmt: skip
    parser.add_argument(
        "--catalog", metavar="C", default="sample",
        help="sample, or a catalog.json on this machine; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--labels", metavar="ID",
        help="its collection of label maps, lists or drawings; default: every item that holds them",
    )  # fmt: skip
    parser.add_argument(
        "--model", default="nano", metavar="M",
        help="a name, a folder or the address of a server; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--sensors", metavar="S", default="optical,sar,both",
        help="which views to show: some of optical, sar, both; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--control", choices=("blank", "other", "shuffled", "no-sar", "no-optical"),
        help="take something away, upon which scores must fall: the pictures, their place, the "
        "order of the weights, a sensor",
    )  # fmt: skip
    parser.add_argument(
        "--deadline", metavar="S", type=_seconds, default=120.0,
        help="seconds that each load may take; default %(default)g",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE", help="write the table; as JSON where the name ends in .json"
    )


def replay(parser: argparse.ArgumentParser) -> None:
    """Of ``replay``."""
    parser.add_argument("record", metavar="RECORD", help="path of a record.json")
    parser.add_argument(
        "--model", help="folder of the model, or a server; default: the one in the record"
    )
    parser.add_argument("--bundle", metavar="FILE", help="where its chip is, without a network")


def _replicas(text: str) -> tuple[int, int]:
    """Fewest and most.

    >>> _replicas("2"), _replicas("1-4")
    ((2, 2), (1, 4))
    """
    found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", text, re.ASCII)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= fewest <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 2 nor 1-4")
    return fewest, most


def _share(text: str) -> float:
    share = _number(text)
    if not (0 <= share < 1 or (share.is_integer() and share > 0)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0.5 nor 1 nor 2")
    return share


def _number(text: str) -> float:
    """A number; what is none becomes NaN, which fits no limit."""
    try:
        return float(text)
    except ValueError:  # argparse would tell the name of a function
        return math.nan
