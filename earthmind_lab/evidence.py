"""Evidence: what a text claims, against masks.

Numbers come from the masks of the same ask, or of a follow-up segmentation ("Segment the
water.") put to the same engine on the same views; never from tokens. Where no mask speaks, the
verdict is ``uncheckable``. Nothing in here changes an answer.

A claim of kind ``baseline`` says how far the model's mask of water and a simple rule on the
pixels (`baselines`: NDWI, VV backscatter) disagree. The rule is not truth either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import Claim, Mapped, Verdict, format_area
from earthmind_lab.baselines import Baseline, disagreement, water_baselines
from earthmind_lab.chip import Chip
from earthmind_lab.claims import COVERS, Statement, canonical, canonical_words, read_claims
from earthmind_lab.exchange import Region, Reply, View
from earthmind_lab.masks import FollowUp, Ground, Masks

__all__ = ["check", "disagreement", "water_baselines"]

PRESENT_SHARE = 0.01
"""A cover is there from 1 % of the AOI: below, a mask is within reach of its own edge error."""
ABSENT_SHARE = 0.005
"""And not there under 0.5 %; between the two the masks don't decide."""
AREA_TOLERANCE = 0.10
"""Relative; a 10 m mask of a field of 10 ha is uncertain by about one edge pixel, 10 %."""
SHARE_TOLERANCE = 0.05
"""Absolute, 5 points: people and models round shares to tens."""
COUNT_TOLERANCE = 0.10
"""Relative, beyond ten objects; up to ten a count must be exact."""
DOMINANT_SHARE = 0.5
"""A cover of more than half is the main one, whatever else there is."""
REGION_SHARE = 0.5
"""A region is what covers at least half of it."""
AGREEMENT_IOU = 0.5
"""From here on a mask and a baseline are said to agree."""
BASELINE_SEEN = 0.5
"""A baseline that sees less than half of the AOI decides nothing."""


def check(
    reply: Reply,
    question: str,
    *,
    views: Sequence[View],
    chip: Chip | None = None,
    seen_gsd: float | None = None,
    regions: Sequence[Region] = (),
    mapped: Mapped | None = None,
    follow_up: FollowUp | None = None,
) -> tuple[Claim, ...]:
    """Compare what a reply says with masks.

    Args:
        reply: What the model said and marked.
        question: What it was asked.
        views: The pictures that it saw.
        chip: Where they come from; None for a plain picture.
        seen_gsd: Metres per pixel that the model really saw.
        regions: Places that the question marked.
        mapped: The reply on the Earth; gives the objects too small to resolve.
        follow_up: Puts "Segment the …" to the same engine; None = only the masks of this ask.

    Returns:
        One claim per statement, then what could not be resolved, then baselines.
    """
    if not views:
        return ()
    ground = Ground.of(chip, views, seen_gsd)
    reply = _with_topic(reply, question)
    masks = Masks(reply, question, views[0].shape, follow_up)
    labels = [found.label for found in reply.objects if found.mask_logits is not None]
    said = read_claims(reply.text, question, labels)
    claims = [_judge(statement, masks, ground, regions, said) for statement in said]
    claims += _unresolved(mapped, ground)
    topics = {canonical(s.label) for s in said if s.label}
    if chip is not None and "water" in topics:
        claims += _against_baselines(chip, masks, ground)
    return tuple(claims)


def _with_topic(reply: Reply, question: str) -> Reply:
    """Objects that the text leaves unnamed are what the question asked for, if that is one."""
    named = [cover for cover in COVERS if cover in canonical_words(question)]
    if len(named) != 1:
        return reply
    objects = tuple(
        replace(found, label=named[0]) if found.label in ("", "object") else found
        for found in reply.objects
    )
    return replace(reply, objects=objects)


def _judge(
    said: Statement, masks: Masks, ground: Ground, regions: Sequence[Region], every: list[Statement]
) -> Claim:  # fmt: skip
    region = _region_of(said, regions)
    if region is not None:
        return _judge_region(said, masks, ground, region)
    words: dict[str, Any] = {"label": said.label}
    key = {"presence": "present", "count": "count", "area": "area_m2", "share": "share"}
    if said.kind in key:
        words[key[said.kind]] = said.value
    found = masks.of(said.label) if said.label else None
    if found is None:
        return Claim(
            text=said.text, kind=said.kind, said=words, measured={}, verdict="uncheckable"
        )  # fmt: skip
    measured = {**ground.measure(found.mask, ""), **found.origin}
    if said.kind == "count":
        return _judge_count(said, words, measured, found.objects)
    if said.kind == "cover":
        verdict = _cover_verdict(said, measured, masks, ground, every)
    else:
        verdict = _VERDICTS[said.kind](said, measured)
    return Claim(text=said.text, kind=said.kind, said=words, measured=measured, verdict=verdict)


def _presence_verdict(said: Statement, measured: Mapping[str, Any]) -> Verdict:
    share, count = measured["share"], measured["count"]
    # A thing (a ship, a bridge) is there with one mark; a cover needs a share of the ground.
    thing = canonical(said.label or "") not in COVERS
    if share >= PRESENT_SHARE or (thing and count >= 1):
        there = True
    elif share < ABSENT_SHARE:
        there = False
    else:
        return "uncheckable"
    return "supported" if there == said.value else "contradicted"


def _area_verdict(said: Statement, measured: Mapping[str, Any]) -> Verdict:
    if measured["area_m2"] is None:
        return "uncheckable"
    return _near(said, measured["area_m2"], AREA_TOLERANCE * measured["area_m2"])


def _share_verdict(said: Statement, measured: Mapping[str, Any]) -> Verdict:
    return _near(said, measured["share"], SHARE_TOLERANCE)


_VERDICTS = {"presence": _presence_verdict, "area": _area_verdict, "share": _share_verdict}


def _near(said: Statement, measured: float, tolerance: float) -> Verdict:
    # Rounding excuses a number only as far as the number itself is large.
    slack = max(tolerance, min(said.rounding, 0.25 * float(said.value or 0)))
    return "supported" if abs(float(said.value or 0) - measured) <= slack else "contradicted"


def _judge_count(
    said: Statement, words: dict[str, Any], measured: dict[str, Any], objects: int
) -> Claim:
    # Marks set apart by the model are its own count; one mask is counted by its components.
    # Houses, trees and fields touch, so the components of one cover mask don't count them.
    cover = canonical(said.label or "")
    touching = cover in COVERS and cover != "water"
    verdict: Verdict
    if objects >= 2:
        measured["count"] = objects
    if touching and objects < 2 and measured["count"] > 0:
        verdict = "uncheckable"
    else:
        value, count = float(said.value or 0), measured["count"]
        allowed = COUNT_TOLERANCE * count if count > 10 else 0.0
        verdict = "supported" if abs(value - count) <= allowed else "contradicted"
    return Claim(text=said.text, kind="count", said=words, measured=measured, verdict=verdict)


def _cover_verdict(
    said: Statement, measured: dict[str, Any], masks: Masks, ground: Ground, every: list[Statement]
) -> Verdict:  # fmt: skip
    if measured["share"] > DOMINANT_SHARE:
        return "supported"
    mine = canonical(said.label or "")
    named = [canonical(s.label) for s in every if s.label]
    others = [name for name in dict.fromkeys([*named, *COVERS]) if name != mine]
    shares: dict[str, float] = {}
    for name in others:
        found = masks.of(name)
        if found is not None:
            shares[name] = ground.measure(found.mask, "")["share"]
    measured["others"] = shares
    if any(share > measured["share"] for share in shares.values()):
        return "contradicted"
    # Largest of all is only known once all were measured.
    complete = len(shares) == len(others) and measured["share"] >= PRESENT_SHARE
    return "supported" if complete else "uncheckable"


def _region_of(said: Statement, regions: Sequence[Region]) -> Region | None:
    """The marked region that a sentence is about."""
    text = said.text.lower().replace(" ", "")
    for number, region in enumerate(regions, start=1):
        if f"region{number}" in text or (
            region.label and region.label.lower() in said.text.lower()
        ):
            return region
    return regions[0] if len(regions) == 1 and said.kind == "cover" else None


def _judge_region(said: Statement, masks: Masks, ground: Ground, region: Region) -> Claim:
    words = {"label": said.label, "present": said.value is not False, "region": region.label}
    found = masks.of(said.label) if said.label else None
    within = region.mask & ground.allowed
    if found is None or not within.any() or said.kind not in ("presence", "cover"):
        return Claim(
            text=said.text, kind="region", said=words, measured={}, verdict="uncheckable"
        )  # fmt: skip
    share = float((found.mask & within).sum() / within.sum())
    fits = (share >= REGION_SHARE) == words["present"]
    measured = {"share_of_region": round(share, 4), **found.origin}
    verdict: Verdict = "supported" if fits else "contradicted"
    return Claim(text=said.text, kind="region", said=words, measured=measured, verdict=verdict)


def _unresolved(mapped: Mapped | None, ground: Ground) -> list[Claim]:
    if mapped is None or ground.chip is None:
        return []
    side = ground.chip.gsd * ground.least**0.5
    return [
        Claim(
            text=f"{count} marks of {label} are smaller than {side:.0f} m x {side:.0f} m: "
            "not resolvable here.",
            kind="resolution",
            said={"label": label},
            measured={"count": count, "least_m2": round(side**2, 1), "source": "this ask"},
            verdict="uncheckable",
        )
        for label, count in mapped.unresolved.items()
    ]


def _against_baselines(chip: Chip, masks: Masks, ground: Ground) -> Iterator[Claim]:
    baselines = list(water_baselines(chip).values())
    model = masks.of("water")
    if model is not None:
        for baseline in baselines:
            yield _comparison(
                "The model", model.mask, baseline.rule, baseline, ground, _cloud_of(chip, baseline)
            )  # fmt: skip
    if len(baselines) == 2:
        ndwi, vv = baselines
        both = replace(vv, seen=vv.seen & ndwi.seen)
        yield _comparison(ndwi.rule, ndwi.mask, vv.rule, both, ground, _cloud_of(chip, ndwi))


def _cloud_of(chip: Chip, baseline: Baseline) -> float | None:
    return chip.pair.cloud_in_aoi if baseline.name == "ndwi" else None


def _comparison(
    name: str, mask: NDArray[np.bool_], rule: str, other: Baseline, ground: Ground,
    cloud: float | None,
) -> Claim:  # fmt: skip
    where = ground.allowed & other.seen
    one, two = ground.measure(mask, name), ground.measure(other.mask, rule)
    apart = disagreement(mask, other.mask, where)
    seen = float(where.sum()) / max(int(ground.allowed.sum()), 1)
    seen *= 1 - (cloud or 0.0) / 100
    verdict: Verdict = "supported" if apart["iou"] >= AGREEMENT_IOU else "contradicted"
    if seen < BASELINE_SEEN:
        verdict = "uncheckable"
    agree = {"supported": "agree", "contradicted": "disagree", "uncheckable": "can't be compared"}
    largest = max(one["area_m2"], two["area_m2"])
    first, second = (format_area(each["area_m2"], like=largest) for each in (one, two))
    text = (
        f"{name} maps {first} of water, the baseline {rule} {second}: they {agree[verdict]} "
        f"(IoU {apart['iou']:.2f}; only the first {apart['only_a']:.1%}, "
        f"only the second {apart['only_b']:.1%} of the AOI)."
    )
    names = {"label": "water", "by": name, "share": one["share"], "area_m2": one["area_m2"]}
    measured = {
        "by": rule, "share": two["share"], "area_m2": two["area_m2"], **apart,
        "seen_share": round(seen, 4),
    }  # fmt: skip
    return Claim(text=text, kind="baseline", said=names, measured=measured, verdict=verdict)
