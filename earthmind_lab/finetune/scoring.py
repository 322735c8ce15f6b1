"""What a model really answers to examples, and how near that is to what was wanted.

Each example is one of these kinds, by the answer that was wanted:

    yes/no    begins with yes or no: right when the model's first word is the same
    mask      has masks: IoU of each, in the order of the text; marks too many or too few count 0
    nothing   a mask was asked for and there is none: right when nothing is marked
    short     at most `SHORT` words: right when it is the same but for case and punctuation
    text      anything longer: only the loss of its tokens is known
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earthmind_lab.errors import EarthMindError
from earthmind_lab.evaluate.asking import yes_or_no
from earthmind_lab.exchange import Options, Reply
from earthmind_lab.finetune.examples import Chosen, Example, ExampleInfo, Examples
from earthmind_lab.finetune.frames import spread
from earthmind_lab.progress import bar

SHORT = 6
"""Words of an answer that is compared as a whole."""
LEARNED = 1000
"""Most training examples that are opened to see what the commonest answer is."""
DEADLINE = 600.0
"""Seconds for one answer."""


def kind_of(example: Example) -> str:
    """``yes/no``, ``mask``, ``nothing``, ``short`` or ``text``."""
    if example.masks is not None and len(example.masks):
        return "mask"
    if yes_or_no(example.reply) is not None:
        return "yes/no"
    if example.info.task == "segment":
        return "nothing"
    return "short" if len(same(example.reply).split()) <= SHORT else "text"


def same(text: str) -> str:
    """A text without case, punctuation and superfluous space.

    >>> same("About a  third."), same("Region 1 is crops.")
    ('about a third', 'region 1 is crops')
    """
    plain = (c if unicodedata.category(c)[0] in "LN%" or c == "%" else " " for c in text.lower())
    return " ".join("".join(plain).split())


def unit_of(info: ExampleInfo) -> str:
    """What an example is a witness of: its place, its pictures, or itself."""
    if info.place is not None and not info.place.is_empty:
        return "place " + hashlib.sha256(info.place.normalize().wkb).hexdigest()[:12]
    if info.pictures:
        return "pictures " + hashlib.sha256("|".join(info.pictures).encode()).hexdigest()[:12]
    return "example " + info.id


def some_of(examples: Examples, most: int) -> Chosen:
    """At most so many examples, spread over a source."""
    return Chosen(examples, spread(len(examples), min(most, len(examples))))


def ask_all(
    name: str | Path, sets: Mapping[str, Examples], *, device: str | None, said: str
) -> dict[str, list[dict[str, Any]]]:
    """Let a model answer every example of some sets.

    Args:
        name: A model's name or folder, opened as `load_engine` opens it.
        sets: By name.
        device: Of torch.
        said: Beside the progress bar.

    Returns:
        Per set and example, in their order: ``loss`` (mean of the wanted answer's tokens),
        ``score`` (0 to 1, None of kind ``text``), ``said``, and ``failed`` where an example can't
        be put to this model.

    Raises:
        EarthMindError: The model can't be opened.
    """
    from earthmind_lab.engine.loading import open_backend
    from earthmind_lab.engine.resident import ResidentEngine

    backend: Any = open_backend(name, device=device)
    found: dict[str, list[dict[str, Any]]] = {}
    count = sum(map(len, sets.values()))
    with bar(2 * count, unit="example", desc=said, delay=1.0) as progress:
        for key, examples in sets.items():
            found[key] = [{"loss": each} for each in _losses(backend, examples, progress)]
        engine = ResidentEngine(backend)
        try:
            for key, examples in sets.items():
                for index, row in enumerate(found[key]):
                    row |= _answered(engine, backend.processor, examples, index)
                    progress.update()
        finally:
            engine.close()
    return found


def _losses(backend: Any, examples: Examples, progress: Any) -> Iterator[float | None]:
    """Mean loss of each example's answer; None where it is no number, or can't be asked for."""
    import torch

    from earthmind_lab.model.losses import LossWeights
    from earthmind_lab.model.samples import Sample, training_batch
    from earthmind_lab.model.training import EarthMindTraining

    model = backend.model
    step = EarthMindTraining(model, LossWeights(text=1.0, mask=0.0, dice=0.0)).eval()
    for index in range(len(examples)):
        loss = None
        try:
            one = examples[index]
            sample = Sample(prompt=one.prompt, reply=one.reply, masks=one.masks)
            batch = training_batch(backend.processor, [sample])
            on = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in batch.items()}
            with torch.inference_mode():
                value = float(step(**on).losses["text"])
            loss = value if math.isfinite(value) else None
        except EarthMindError:
            pass  # the answer says why
        progress.update()
        yield loss


def _answered(engine: Any, processor: Any, examples: Examples, index: int) -> dict[str, Any]:
    """The answer to one example."""
    try:
        example = examples[index]
        most = longest_answer(processor, example)
        engine.capabilities.check(example.prompt)
        reply = engine.generate(example.prompt, Options(max_new_tokens=most, deadline=DEADLINE))
    except EarthMindError as error:
        return {"score": None, "said": "", "failed": str(error)}
    return {"score": score_of(example, reply), "said": reply.text}


def longest_answer(processor: Any, example: Example) -> int:
    """Tokens that an answer may have.

    Twice what was wanted: who says more is wrong anyway, and must not take minutes for it.
    """
    return 16 + 2 * len(processor.encode_reply(example.reply))


def score_of(example: Example, reply: Reply) -> float | None:
    """How right an answer is, 0 to 1; None of kind ``text``."""
    kind = kind_of(example)
    if kind == "mask":
        return _overlap(example, reply)
    if kind == "yes/no":
        return float(yes_or_no(reply.text) == yes_or_no(example.reply))
    if kind == "nothing":
        return float(not reply.objects)
    return float(same(reply.text) == same(example.reply)) if kind == "short" else None


def _overlap(example: Example, reply: Reply) -> float:
    """Mean IoU of the marks in their order, of as many as there are or ought to be."""
    assert example.masks is not None
    truth = example.masks if example.masks.ndim == 4 else example.masks[:, None]  # (N, F, H, W)
    known = np.ones_like(truth) if example.known is None else example.known.reshape(truth.shape)
    frames = truth.shape[1]
    marked = [found for found in reply.objects if found.mask_logits is not None]
    objects = [marked[at : at + frames] for at in range(0, len(marked), frames)]
    total = 0.0
    for wanted, sure, own in zip(truth, known, objects, strict=False):
        drawn = [found.mask_logits > 0 for found in own if found.mask_logits is not None]
        if len(drawn) != frames or any(mask.shape != wanted[0].shape for mask in drawn):
            continue
        said = np.stack(drawn) & sure
        wanted = wanted & sure
        union = int((said | wanted).sum())
        total += int((said & wanted).sum()) / union if union else 1.0
    return total / max(len(truth), len(objects))


def described(examples: Examples, index: int) -> dict[str, Any]:
    """What a card says of an example, whatever a model answers."""
    info = examples.info(index)
    about = {"id": info.id, "task": info.task, "unit": unit_of(info)}
    try:
        example = examples[index]
    except EarthMindError as error:
        return {**about, "kind": "text", "wanted": "", "failed": str(error)}
    kind = kind_of(example)
    more: dict[str, Any] = {}
    if kind == "yes/no":
        more["side"] = yes_or_no(example.reply)
    if kind == "mask" and example.masks is not None:
        # IoU of marking the whole picture
        sure = ... if example.known is None else example.known
        more["everything"] = float(example.masks[sure].mean())
    return {**about, "kind": kind, "wanted": example.reply, **more}


def commonest(train: Examples) -> dict[str, Any]:
    """The commonest answer of training data, per task and kind: what never looks scores by it.

    At most `LEARNED` examples are opened, spread over the source.
    """
    said: dict[str, Counter[str]] = defaultdict(Counter)
    seen = some_of(train, LEARNED)
    with bar(len(seen), unit="example", desc="commonest answers", delay=1.0) as progress:
        for index in range(len(seen)):
            try:
                example = seen[index]
            except EarthMindError:
                continue
            finally:
                progress.update()
            kind = kind_of(example)
            if kind in ("yes/no", "short"):
                word = {True: "yes", False: "no", None: ""}[yes_or_no(example.reply)]
                said[f"{example.info.task}: {kind}"][word or same(example.reply)] += 1
    best = {key: max(sorted(c), key=c.__getitem__) for key, c in sorted(said.items())}
    return {"answers": best, "opened": len(seen), "of": len(train)}


def right_by(baseline: Mapping[str, str], row: Mapping[str, Any]) -> float | None:
    """What the baseline scores on an example; None where it has no answer."""
    if row["kind"] == "mask":
        everything: float = row["everything"]
        return everything
    word = baseline.get(f"{row['task']}: {row['kind']}")
    if word is None:
        return None
    if row["kind"] == "yes/no":
        return float((word == "yes") == row["side"])
    return float(word == same(row["wanted"]))


def kinds(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Tasks with their kinds, in the order in which they come."""
    return list(dict.fromkeys((row["task"], row["kind"]) for row in rows))
