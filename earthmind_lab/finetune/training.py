"""The steps of a training: build, go on or begin, train, write what came of it."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import EngineError
from earthmind_lab.finetune import checkpoints, parallel, zero
from earthmind_lab.finetune.batches import Collator, digest
from earthmind_lab.finetune.examples import Examples
from earthmind_lab.finetune.outcome import Run, environment
from earthmind_lab.finetune.packing import Packed, check_packing, packed
from earthmind_lab.finetune.plain import plain
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.watching import Watcher, on_interrupt
from earthmind_lab.progress import bar
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    from earthmind_lab.finetune.planning import Plan

LOG = logging.getLogger(__name__)
FREE = ("guard", "test", "saving", "evaluation", "parallel", "device", "cache", "name", "logs")
"""Keys of a recipe that may change before a training is gone on from: they change no step."""


class Training:
    """The steps of `run.finetune`, with what they share.

    Args:
        recipe: Of the training.
        out: Folder of the run.
        train: Examples that are learned.
        validation: Examples for early stop.
        guard: Examples whose loss should not grow.
        watchers: Told of all that happens.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        train: Examples,
        validation: Examples | None,
        guard: Examples | None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        from earthmind_lab.finetune.building import build

        self.recipe, self.out, self.guard, self.watchers = recipe, out, guard, watchers
        self.train, self.validation = train, validation
        self.folder = out / "checkpoints"
        self.built = build(recipe, every_part=parallel.processes() > 1)
        check_packing(recipe, self.built.step.model.config.fusion)
        self.drawn = packed(recipe, train)
        self.about: dict[str, Any] = {
            "recipe": {k: v for k, v in plain(recipe).items() if k not in FREE},
            "weights": self.built.weights,
            "examples": digest(train),
            "processes": parallel.processes(),
            "spread": parallel.spread(recipe),
        }

    def run(self, *, resume: bool, began: float) -> Run:
        """From the last checkpoint, or the start, to the end.

        Raises:
            EngineError: Another process trains in this folder.
        """
        with checkpoints.alone(self.folder) if parallel.leads() else contextlib.nullcontext():
            return self._run(resume=resume, began=began)

    def _run(self, *, resume: bool, began: float) -> Run:
        from earthmind_lab.finetune.following import Log, StopSaves, Watch

        found = checkpoints.all_of(self.folder)
        if found and not resume:
            raise EngineError(
                f"{self.out} holds a training already.",
                found=f"a checkpoint of step {checkpoints.step_of(found[-1])}",
                change="resume=True, or another folder",
            )
        last = found[-1] if found else None
        watch = Watch()
        if last is not None:
            kept = self._check(last)
            watch.best, watch.best_step, watch.since = (
                kept[name] for name in ("best", "best_step", "since")
            )
        leads = parallel.leads()
        if leads and isinstance(self.drawn, Packed):
            LOG.info("%s", self.drawn.said)
        log = None
        if leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoints.clean(self.folder)
            self.recipe.save(self.out / "recipe.yaml")
            log = Log(
                self.out / "losses.jsonl", None if last is None else checkpoints.step_of(last)
            )
        stop = StopSaves(watch, self.watchers)
        with quiet():
            trainer = self._trainer(watch, log, stop)
            # Adapters add nothing before their first step, and a checkpoint is read after this.
            guarded = {} if self.guard is None else {"before": trainer.mean_loss(self.guard)}
            with on_interrupt(stop.ask), self._bar() as self._shown:
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
            state = self._state(trainer)
            self._put(trainer, state)
            if self.guard is not None and watch.ended != "stopped":
                guarded["after"] = trainer.mean_loss(self.guard)
        return self._ended(trainer, watch, state, guarded, began)

    def measure(self, found: Plan) -> Plan:
        """With the time of a step."""
        from earthmind_lab.finetune.following import StopSaves, Watch
        from earthmind_lab.finetune.planning import measured

        watch = Watch()
        return measured(found, self._trainer(watch, None, StopSaves(watch)))

    def _trainer(self, watch: Any, log: Any, stop: Any) -> Any:
        """The library's Trainer with everything that it needs."""
        from transformers import PrinterCallback
        from transformers.trainer_callback import ProgressCallback

        from earthmind_lab.finetune.features import FrozenFeatures, open_store
        from earthmind_lab.finetune.sampled import Sampler
        from earthmind_lab.finetune.trainer import LabTrainer

        recipe, step = self.recipe, self.built.step
        store = None
        if recipe.parallel.kind != "fsdp2":  # whose towers are spread over the processes
            store = open_store(recipe.cache, step, self.built.weights, Settings.from_env().home)
        encoded = None if store is None else FrozenFeatures(step, self.built.processor, store)

        samples = self._samples()

        def write(line: dict[str, Any]) -> None:
            if log is not None:
                log.write(line)
                if "loss" in line and self._shown is not None:
                    self._shown.total = trainer.state.max_steps
                    self._shown.update(line["step"] - self._shown.n)
                    self._shown.set_postfix(loss=f"{line['loss']:.4f}")
            for watcher in self.watchers:
                watcher.row(line)

        trainer = LabTrainer(
            recipe,
            watch=watch,
            write=write,
            about=self.about,
            model=step,
            args=training_arguments(recipe, self.folder, validates=self.validation is not None),
            train_dataset=self.drawn,
            eval_dataset=self.validation,
            data_collator=Collator(self.built.processor, recipe, encoded),
            callbacks=[stop, *([] if samples is None else [samples])],
        )
        if samples is not None:
            samples.sampler = Sampler(step, self.built.processor, recipe.options, trainer.casting)
        for printing in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printing)
        return trainer

    def _samples(self) -> Any:
        """Who has the model asked as it learns; None where nobody looks, or it is spread."""
        from earthmind_lab.finetune.sampled import Samples

        wanted = self.recipe.evaluation
        watchers = [watcher for watcher in self.watchers if watcher.wants_answers]
        if not (watchers and wanted.samples) or parallel.processes() > 1:
            return None
        return Samples(
            watchers, self.validation, self.train, most=wanted.samples, every=wanted.every
        )

    def _bar(self) -> Any:
        """The progress bar, where no watcher shows the progress."""
        if any(watcher.shows_progress for watcher in self.watchers):
            return contextlib.nullcontext()
        return bar(None, unit="step", desc="training")

    def _check(self, last: Path) -> dict[str, Any]:
        """Refuse to go on from the checkpoint of another training, or one that can't be read."""
        held = checkpoints.read_json(last / checkpoints.ABOUT)
        wrote = held.get("spread", "")
        if wrote != self.about["spread"]:
            raise EngineError(
                f"parallel: kind: {self.recipe.parallel.kind} can't read the checkpoint in "
                f"{self.out}.",
                found=f"that of {wrote or 'none or ddp'}",
                change=f"parallel.kind={wrote or 'ddp'}, or another folder",
            )
        for name, value in self.about.items():
            if held.get(name, "") == value:
                continue
            key = name
            if name == "recipe":
                theirs = held["recipe"]
                key = next(k for k in {**value, **theirs} if value.get(k) != theirs.get(k))
            raise EngineError(
                f"{self.out} holds the checkpoint of another training, which differs in {key}.",
                found=_short(held, name, key) + " there, " + _short(self.about, name, key),
                change="the same recipe, model and examples, or another folder",
            )
        seen: dict[str, Any] = held["watch"]
        return seen

    def _state(self, trainer: Any) -> dict[str, Any]:
        """The trained weights, of the best validation where there was one."""
        from earthmind_lab.finetune.building import trained

        best = trainer.watch.best_step
        path = self.folder / f"checkpoint-{best}"
        names = [name for name, _ in trained(trainer.model)]
        if best is not None and best != trainer.state.global_step and path.is_dir():
            from safetensors.torch import load_file

            return load_file(path / checkpoints.WEIGHTS)
        if trainer.is_fsdp_enabled:
            whole = trainer.accelerator.get_state_dict(trainer.model)
            return {name: whole[name] for name in names} if parallel.leads() else {}
        if trainer.is_deepspeed_enabled:
            return zero.whole(trained(trainer.model))
        return dict(trained(trainer.model))

    def _put(self, trainer: Any, state: Mapping[str, Any]) -> None:
        """What is measured after the training is the adapter that it leaves, not the last step."""
        import torch

        from earthmind_lab.finetune.building import trained

        if trainer.is_fsdp_enabled:
            return
        with torch.no_grad():
            for name, weight in dict(trained(trainer.model)).items():
                if state[name] is not weight:
                    weight.copy_(state[name])

    def _ended(
        self, trainer: Any, watch: Any, state: Any, guarded: dict[str, float], began: float
    ) -> Run:
        """Write what came of it."""
        adapter, found = None, ""
        if watch.ended != "stopped":
            adapter = self.out / "adapter"
            about = {
                "model": self.recipe.model,
                "weights": self.built.weights,
                "recipe": self.recipe.hash,
                "steps": trainer.state.global_step,
                "fusion": self.recipe.fusion,
                "mask_source": self.recipe.mask_source,
            }
            if parallel.leads():
                found = self._saved(adapter, state, about)
        run = Run(
            folder=self.out,
            recipe=self.recipe,
            steps=trainer.state.global_step,
            ended=watch.ended or "done",
            adapter=adapter,
            hash=found,
            guard=guarded,
            seconds=time.monotonic() - began,
        )
        if parallel.leads():
            checkpoints.write_json(
                self.out / "run.json", {**run.to_dict(), **environment(), **self.about}
            )
        return run

    def _saved(self, adapter: Path, state: Any, about: Mapping[str, Any]) -> str:
        """Write the adapter; its hash.

        Raises:
            EngineError: It can't be written; the last checkpoint is there.
        """
        from safetensors import SafetensorError

        from earthmind_lab.finetune.export import save_adapter

        try:
            return save_adapter(adapter, self.built.step, state, about)
        except (OSError, SafetensorError) as error:
            raise EngineError(
                f"The adapter can't be written to {adapter}.",
                found=" ".join(str(error).split())[:200],
                change="free some space; then the same command goes on from the last checkpoint",
            ) from error


def training_arguments(recipe: Recipe, folder: Path, *, validates: bool) -> Any:
    """The recipe in transformers' words; what `LabTrainer` does itself is switched off."""
    from transformers import TrainingArguments

    from earthmind_lab.model.opening import choose_device

    cpu = choose_device(recipe.device or Settings.from_env().device) == "cpu"
    every = recipe.evaluation.every
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=recipe.batch,
        per_device_eval_batch_size=recipe.batch,
        gradient_accumulation_steps=recipe.accumulation,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.steps or -1,
        learning_rate=recipe.optimiser.rate,
        max_grad_norm=recipe.optimiser.clip,
        seed=recipe.seed,
        data_seed=recipe.seed,
        eval_strategy="no" if not validates else "steps" if every else "epoch",
        eval_steps=every or None,
        save_strategy="steps",
        save_steps=recipe.saving.every,
        logging_steps=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=not cpu,
        report_to=[],
        use_cpu=cpu,
        disable_tqdm=True,
        **parallel.arguments(recipe, cpu=cpu),
    )


def _short(held: Mapping[str, Any], name: str, key: str) -> str:
    value = held.get(name)
    return str(value.get(key) if isinstance(value, dict) else value)[:60]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries tell each other of names that will change; nobody here can do anything."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        yield
