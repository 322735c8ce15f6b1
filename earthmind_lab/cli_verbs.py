"""The verbs of the command line: each calls one public function and says what it found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.cli_given import (
    aoi_of,
    bundled_chips,
    limits_of,
    own_chip,
    pair_of,
    pairs_of,
    regions_of,
    subject_of,
)
from earthmind_lab.errors import EarthMindError, PromptError

if TYPE_CHECKING:
    from earthmind_lab.scene import ScenePair

UNWELL = 1
"""Exit code of ``doctor`` when a check fails."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a verb found."""

    data: dict[str, Any]
    """For --json."""
    lines: Sequence[str]
    """For people."""
    code: int = 0


def search(given: argparse.Namespace) -> Outcome:
    """``earthmind search``: the ranked pairs."""
    from earthmind_lab.data.search import search_candidates
    from earthmind_lab.recording import plain

    aoi, rejected = aoi_of(given), []
    if given.all:
        found = search_candidates(
            aoi, catalog=given.catalog, deadline=given.deadline, **limits_of(given)
        )
        pairs, rejected = list(found.pairs), list(found.rejected)
    else:
        pairs = pairs_of(given, aoi)
    lines = [line for number, pair in enumerate(pairs, start=1) for line in _about(pair, number)]
    lines += [
        f"Rejected: {' + '.join(scene.id for scene in each.scenes)}: {each.reason}"
        for each in rejected
    ]
    data: dict[str, Any] = {"pairs": [pair.to_dict() for pair in pairs]}
    if given.all:
        data["rejected"] = [each.to_dict() for each in rejected]
    if given.freeze:
        from earthmind_lab.data.frozen import freeze_search

        path = str(
            freeze_search(given.freeze, pairs, aoi, terms=limits_of(given), deadline=given.deadline)
        )
        data, lines = {**data, "frozen": path}, [*lines, f"Wrote {path}"]
    return Outcome(data=plain(data), lines=lines)


def chip(given: argparse.Namespace) -> Outcome:
    """``earthmind chip``: what a load gives; with --out its GeoTIFFs."""
    from earthmind_lab.chip import grid_words
    from earthmind_lab.data.budget import Budget
    from earthmind_lab.data.bundle import save_bundle
    from earthmind_lab.data.files import Reader
    from earthmind_lab.data.load import load_chip, plan_chip
    from earthmind_lab.export import CHIP_FILES, check_folder, save_chip
    from earthmind_lab.grid import grid_data
    from earthmind_lab.recording import plain

    if given.out:
        check_folder(given.out, CHIP_FILES)
    if given.bundle:
        check_folder(Path(given.bundle).parent)
    loaded = own_chip(given)
    if loaded is None:
        aoi = aoi_of(given)
        pair = pair_of(given, aoi)
        reader = Reader(budget=Budget(given.deadline))
        plan = plan_chip(pair, aoi, gsd=given.gsd, reader=reader)
        loaded = load_chip(pair, aoi, plan=plan, reader=reader)
    else:
        pair = loaded.pair
        plan = plan_chip(pair, loaded.aoi, gsd=loaded.gsd, bands=loaded.bands)
    files = save_chip(loaded, given.out) if given.out else {}
    if given.bundle:
        files["bundle"] = save_bundle([loaded], given.bundle)
    data = {
        "pair": pair.to_dict(),
        "grid": grid_data(loaded.grid),
        "gsd": loaded.gsd,
        "bands": loaded.bands,
        "polarisations": loaded.polarisations,
        "reads": plan.reads,
        "bytes": plan.bytes,
        "radiometry": loaded.radiometry.to_dict(),
        "files": {name: str(path) for name, path in files.items()} or None,
    }
    lines = [
        *_about(pair),
        f"Grid: {grid_words(loaded.grid)}",
        f"Optical: {', '.join(loaded.bands) or 'none'}",
        f"SAR: {', '.join(loaded.polarisations) or 'none'}",
        f"Read: {plan.reads} assets, about {plan.bytes / 1e6:.1f} MB",
        *(f"{name}: {value}" for name, value in loaded.radiometry.to_dict().items() if value),
        *(f"Wrote {path}" for path in files.values()),
    ]
    return Outcome(data=plain(data), lines=lines)


def ask(given: argparse.Namespace) -> Outcome:
    """``earthmind ask``: one question, one answer with evidence and record."""
    from earthmind_lab.conversation import Conversation
    from earthmind_lab.engine.loading import load_engine
    from earthmind_lab.exchange import Options
    from earthmind_lab.export import ANSWER_FILES, check_folder, save_answer
    from earthmind_lab.recording import plain

    if given.out:
        check_folder(given.out, ANSWER_FILES)
    if not given.question.strip():
        raise PromptError("The question is empty.", change="ask something")
    subject, pair = subject_of(given)
    talk = Conversation(subject, load_engine(given.model))
    answer = talk.ask(given.question, regions=regions_of(given), options=Options(seed=given.seed))
    model = {key: str(answer.record.model[key]) for key in ("name", "revision")}
    # Before any file: a model's numbers need not be finite, and JSON has no other.
    data = plain({**answer.to_dict(), "pair": pair.to_dict() if pair else None, "model": model})
    path = None
    if given.out:
        path = str(save_answer(answer, given.out, talk.views, chip=talk.chip)["record.json"])
    return Outcome(data={**data, "record": path}, lines=_told(answer, pair, path))


def replay(given: argparse.Namespace) -> Outcome:
    """``earthmind replay``: the same answer, or which link broke."""
    from earthmind_lab.engine.loading import load_engine
    from earthmind_lab.replay import read_record
    from earthmind_lab.replay import replay as again

    record = read_record(given.record)
    engine = load_engine(given.model) if given.model else None
    found = again(record, engine=engine, chips=bundled_chips(given.bundle))
    head = "The same answer." if found.same else "Not the same answer."
    return Outcome(data=found.to_dict(), lines=[head, *found.differences])


def evaluate(given: argparse.Namespace) -> Outcome:
    """``earthmind evaluate``: a table of scores."""
    from contextlib import nullcontext

    from earthmind_lab.engine.loading import load_engine
    from earthmind_lab.evaluate.controls import shuffled_engine
    from earthmind_lab.evaluate.landcover import evaluate_landcover
    from earthmind_lab.evaluate.presence import evaluate_presence
    from earthmind_lab.evaluate.report import check_file

    if given.out:
        check_file(given.out)
    task = {"presence": evaluate_presence, "landcover": evaluate_landcover}[given.task]
    shuffled = given.control == "shuffled"
    with shuffled_engine(given.model) if shuffled else nullcontext(load_engine(given.model)) as one:
        table = task(
            one, given.catalog, given.labels, control=given.control, deadline=given.deadline,
            sensors=tuple(word.strip() for word in given.sensors.split(",")),
        )  # fmt: skip
    path = str(table.save(given.out)) if given.out else None
    lines = [*table.markdown().splitlines(), *([f"Wrote {path}"] if path else [])]
    return Outcome(data={**table.to_dict(), "file": path}, lines=lines)


def cache(given: argparse.Namespace) -> Outcome:
    """``earthmind cache``: what is kept on disk."""
    from earthmind_lab.data.cache import ChipCache
    from earthmind_lab.data.kept_arrays import KeptArrays

    kept, arrays = ChipCache.from_settings(), KeptArrays.from_settings()
    data: dict[str, Any] = {"removed": kept.clear()} if given.clear else {}
    removed = arrays.clear() if given.clear else 0
    data |= {"damaged": kept.verify()} if given.verify else {}
    entries = kept.entries()
    size = sum(entry.bytes for entry in entries)
    data |= {"folder": str(kept.folder), "entries": len(entries), "bytes": size}
    held = [size for _, size, _ in arrays.entries()]
    gone = {"removed": removed} if given.clear else {}
    data["arrays"] = {
        **gone, "folder": str(arrays.folder), "entries": len(held), "bytes": sum(held),
    }  # fmt: skip
    lines = [f"Removed {data['removed']} chips, {removed} arrays"] if given.clear else []
    lines += [f"Damaged, removed: {key}" for key in data.get("damaged", ())]
    lines.append(f"{len(entries)} chips in {kept.folder}")
    most = f"of at most {kept.limit / 1e9:.2f} GB"
    lines.append(f"{size / 1e9:.2f} GB {most}")
    lines.append(f"{len(held)} arrays of your own in {arrays.folder}")
    lines.append(f"{sum(held) / 1e9:.2f} GB {most}")
    return Outcome(data={**data, "limit": kept.limit}, lines=lines)


def convert(given: argparse.Namespace) -> Outcome:
    """``earthmind convert``: a checkpoint in the other layout."""
    from earthmind_lab.model.convert import convert_checkpoint
    from earthmind_lab.model.published import local_folder

    written = convert_checkpoint(
        local_folder(given.source),
        given.target,
        to=given.to,
        dtype=given.dtype,
        unsafe_bin=given.unsafe_bin,
        **({"fusion": given.fusion} if given.fusion else {}),
    )
    files = sorted(path.name for path in written.iterdir())
    size = sum((written / name).stat().st_size for name in files)
    line = f"{written}: {len(files)} files, {size / 1e6:.1f} MB"
    return Outcome(data={"folder": str(written), "files": files, "bytes": size}, lines=[line])


def doctor(given: argparse.Namespace) -> Outcome:
    """``earthmind doctor``: what this machine lacks."""
    from earthmind_lab.checks import doctor as examine

    health = examine(catalogs=given.catalogs, model=given.model)
    lines = []
    for check in health.checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
        if check.remedy:
            lines.append(f"     try: {check.remedy}")
    return Outcome(data=health.to_dict(), lines=lines, code=0 if health.ok else UNWELL)


def lab(given: argparse.Namespace) -> Outcome:
    """``earthmind lab``: JupyterLab on the map notebook."""
    from earthmind_lab.lab import open_lab

    code = open_lab(given.folder, port=given.port or 8888, browser=not given.no_browser)
    return Outcome(data={}, lines=[], code=code)


def demo(given: argparse.Namespace) -> Outcome:
    """``earthmind demo``: the Gradio page."""
    from earthmind_lab.demo import serve

    serve(port=given.port or 7860, browser=not given.no_browser)
    return Outcome(data={}, lines=[])


def serve(given: argparse.Namespace) -> Outcome:
    """``earthmind serve``: a model behind HTTP."""
    if given.stop:
        from earthmind_lab.engine.shared import stop

        ended = [f"Ended {each}" for each in stop()]
        return Outcome(data={}, lines=ended or ["No shared server is running."])
    from earthmind_lab.engine.starting import check_libraries

    check_libraries()
    where = {
        "model": given.model, "host": given.host, "port": given.port, "token": given.token,
        "uds": given.uds, "names": given.names, "open_to_all": given.no_token,
        "idle_seconds": given.idle,
    }  # fmt: skip
    if given.replicas is None and (given.ray or given.gpus is not None):
        raise EarthMindError("--ray and --gpus are about replicas.", change="--replicas, too")
    if given.replicas is None:
        from earthmind_lab.server.run import serve as answer

        answer(adapters=given.adapters, **where)
        return Outcome(data={}, lines=[])
    if given.adapters:
        raise EarthMindError("Replicas take no adapters.", change="--model with a merged model")
    from earthmind_lab.server.ray_run import serve as answer_together

    answer_together(replicas=given.replicas, gpus=given.gpus, address=given.ray, **where)
    return Outcome(data={}, lines=[])


def _about(pair: ScenePair, number: int | None = None) -> list[str]:
    head = "Pair" if number is None else f"{number}."
    lines = [f"{head} score {pair.score:.1f}, gap {pair.gap_words}"]
    lines += [f"   {scene.modality}: {scene.id}, {scene.observed}" for scene in pair.scenes]
    return lines + [f"   {reason}" for reason in pair.reasons]


def _told(answer: Any, pair: ScenePair | None, path: str | None) -> list[str]:
    """An answer for people."""
    from earthmind_lab.answer import format_area

    lines = _about(pair) if pair else []
    lines.append(f"Answer: {answer.text}")
    lines += [f"Ended: {answer.reply.remark}"] if answer.reply.remark else []
    lines += [f"Notice: {answer.notice}"] if answer.notice else []
    if answer.grid is not None and not answer.detections:
        lines.append("Mapped area: none")
    for label, area in answer.areas.items():
        count = sum(item.label == label for item in answer.detections)
        objects = "1 object" if count == 1 else f"{count} objects"
        lines.append(f"Mapped area: {format_area(area)} of {label} in {objects}")
    lines += [f"Evidence: {claim.verdict}: {claim.sentence()}" for claim in answer.evidence]
    return [*lines, f"Record: {path or 'none (--out DIR writes one)'}"]
