"""transformers' Trainer with what a long training needs beside the steps.

Checkpoints that are whole or not there, exact continuation, an end with a reason when a loss is not
a number, a log that can be followed, and a stop that loses nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from earthmind_lab.errors import EngineError
from earthmind_lab.finetune import checkpoints, zero
from earthmind_lab.finetune.batches import NAMES
from earthmind_lab.finetune.building import canonical, part_of, trained
from earthmind_lab.finetune.following import Watch, course
from earthmind_lab.finetune.recipe import Recipe


class LabTrainer(transformers.Trainer):
    """Steps through `EarthMindTraining` as a recipe says.

    Args:
        recipe: Of the training.
        watch: Filled in as it goes on.
        write: Gets each line of the log.
        about: What a checkpoint must agree with to be gone on from.
        options: Of transformers' Trainer.
    """

    model: Any

    def __init__(
        self,
        recipe: Recipe,
        *,
        watch: Watch,
        write: Callable[[dict[str, Any]], None],
        about: Mapping[str, Any],
        **options: Any,
    ) -> None:
        self.recipe, self.watch, self._write, self._about = recipe, watch, write, about
        super().__init__(**options)
        self.label_names = ["labels"]

    # --- steps ----------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002 - the library's form
    ) -> Any:
        """Loss of one pass, which must be a number.

        Raises:
            EngineError: It is none; the message names the examples.
        """
        names = inputs.pop(NAMES, [])
        outputs = model(**inputs)
        parts = {name: float(loss) for name, loss in outputs.losses.items()}
        used = {k: v for k, v in parts.items() if getattr(self.recipe.losses, k, 0)}
        if self._anywhere(
            not all(map(math.isfinite, (float(outputs.loss.detach()), *used.values())))
        ):
            raise self._not_a_number("loss", names, parts)
        self.watch.names += names
        for name, value in parts.items():
            self.watch.parts.setdefault(name, []).append(value)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Length of the gradient, which must be a number before a weight moves by it."""
        self._hold_back()
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        if norm is not None and self._anywhere(not math.isfinite(float(norm))):
            raise self._not_a_number("gradient", self.watch.names, {})
        return norm

    def _hold_back(self) -> None:
        """Drop the gradients of parts that wait: they don't count in its length and move nothing.

        They are computed, since processes that train together wait for each other's.
        """
        done = self.state.global_step / self.state.max_steps
        waiting = {part for part, share in self.recipe.optimiser.waits.items() if done < share}
        for name, weight in trained(self.model) if waiting else ():
            if part_of(canonical(name)) in waiting:
                weight.grad = None

    def _anywhere(self, wrong: bool) -> bool:
        """Whether something is wrong in any process: all of them must end together."""
        if self.args.world_size == 1:
            return wrong
        flag = torch.tensor(float(wrong), device=self.args.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _not_a_number(self, what: str, names: list[str], parts: dict[str, float]) -> EngineError:
        kept = checkpoints.all_of(self._folder)
        last = f"step {checkpoints.step_of(kept[-1])}" if kept else "the start"
        told = ", ".join(f"{name} {value:g}" for name, value in parts.items())
        return EngineError(
            f"The {what} of step {self.state.global_step + 1} is not a number; nothing was learned "
            f"from it, and the last checkpoint is that of {last}.",
            found=f"{told + ' ' if told else ''}in the examples {', '.join(names) or 'elsewhere'}",
            change="look at these examples; or a smaller optimiser.rate, or precision=float32",
        )

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW with a group per part and kind of weight."""
        if self.optimizer is None:
            wanted = self.recipe.optimiser
            groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
            for name, weight in trained(self.model if model is None else model):
                part = part_of(canonical(name)) or ""
                decays = wanted.decay_vectors or weight.ndim > 1
                groups.setdefault((part, decays), []).append(weight)
            self.optimizer = torch.optim.AdamW(
                [
                    {
                        "params": weights,
                        "lr": wanted.rate * wanted.rates.get(part, 1.0),
                        "weight_decay": wanted.decay if decays else 0.0,
                    }
                    for (part, decays), weights in sorted(groups.items(), key=lambda g: g[0])
                ],
                betas=wanted.betas,
                fused=True,  # one pass over the weights, on CPUs too
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm-up, then the way down."""
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.create_optimizer(),
                lambda step: course(self.recipe, step, num_training_steps),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def casting(self) -> Any:
        """The context in which the model computes, beside the steps as well."""
        if self.is_deepspeed_enabled and self.recipe.precision == "bfloat16":
            return torch.autocast(self.args.device.type, torch.bfloat16)
        return self.accelerator.autocast()

    # --- log and validation ---------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One line of the log per step and per validation."""
        super().log(logs, start_time)
        if "loss" in logs:
            parts = {k: sum(v) / len(v) for k, v in self.watch.parts.items()}
            self._write(
                {
                    "step": self.state.global_step,
                    "epoch": self.state.epoch,
                    "loss": logs["loss"],
                    "losses": parts,
                    "rate": logs["learning_rate"],
                    "gradient": logs.get("grad_norm"),
                    "time": time.time(),
                }
            )
            self.watch.names, self.watch.parts = [], {}

    def evaluate(self, eval_dataset: Any = None, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss of examples, always at the same points of their masks."""
        loss = self.mean_loss(eval_dataset)
        self._write({"step": self.state.global_step, "epoch": self.state.epoch, "validation": loss})
        if loss < self.watch.best:
            self.watch.best, self.watch.best_step = loss, self.state.global_step
            self.watch.since = 0
            self.control.should_save = True
        else:
            self.watch.since += 1
            if 0 < self.recipe.evaluation.patience <= self.watch.since:
                self.watch.ended, self.control.should_training_stop = "early", True
        metrics = {"eval_loss": loss}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def mean_loss(self, examples: Any = None) -> float:
        """Loss of examples without learning from them; disturbs nothing."""
        step: Any = self.accelerator.unwrap_model(self.model)
        points, cpu = step.generator.get_state(), torch.get_rng_state()
        step.generator.manual_seed(self.recipe.seed)
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        was = self.model.training
        self.model.eval()
        with torch.no_grad(), self.casting():
            for inputs in self.get_eval_dataloader(examples):
                names = inputs.pop(NAMES, [])
                loss = self.model(**self._prepare_inputs(inputs)).loss
                total += torch.tensor([float(loss) * len(names), len(names)]).to(total)
        self.model.train(was)
        step.generator.set_state(points)
        torch.set_rng_state(cpu)
        if self.args.world_size > 1:
            total = self.accelerator.reduce(total, "sum")
        return float(total[0] / total[1])

    # --- checkpoints ----------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ARG002 - as above
        """Everything that going on needs, whole or not at all."""
        folder, step = self._folder, self.state.global_step
        if (folder / f"checkpoint-{step}").exists():
            return  # the last step and the end of the epoch ask for the same one
        leads = bool(self.args.should_save)
        meet = self.accelerator.wait_for_everyone
        with checkpoints.written(folder, step, leads=leads, meet=meet) as draft:
            self.save_model(str(draft), _internal_call=True)
            self._save_optimizer_and_scheduler(str(draft))
            self._save_rng_state(str(draft))
            if leads:
                self.state.save_to_json(str(draft / checkpoints.STATE))
                seen = {name: getattr(self.watch, name) for name in ("best", "best_step", "since")}
                checkpoints.write_json(draft / checkpoints.ABOUT, {**self._about, "watch": seen})
        if leads:
            checkpoints.rotate(folder, self.recipe.saving.keep, self.watch.best_step)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The trained weights alone."""
        names = dict(trained(self.model))
        state = names if state_dict is None else {k: state_dict[k] for k in names}
        target = Path(output_dir or self._folder)
        target.mkdir(parents=True, exist_ok=True)
        checkpoints.save_weights(target / checkpoints.WEIGHTS, state)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The trained weights, by one process."""
        if not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)
            return
        state = zero.whole(trained(self.model))
        if self.args.should_save:
            self._save(output_dir, state)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        engine: Any = self.model_wrapped
        engine.save_checkpoint(output_dir, exclude_frozen_parameters=True)
        if self.args.should_save:
            scheduler: Any = self.lr_scheduler
            torch.save(scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> Any:
        """Everything wrapped, and read from a checkpoint where there is one."""
        ours = self.is_deepspeed_enabled  # the library's way wants frozen weights in it, too
        found = super()._prepare_for_training(  # type: ignore[no-untyped-call]
            max_steps, train_dataloader, None if ours else resume_from_checkpoint
        )
        if ours and resume_from_checkpoint is not None:
            zero.read(self.model_wrapped, Path(resume_from_checkpoint))
            self._load_optimizer_and_scheduler(resume_from_checkpoint)
        return found

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            checkpoints.load_weights(Path(resume_from_checkpoint), model or self.model)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(self._points().get_state(), self._points_file(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and self._points_file(checkpoint).is_file():
            state: Tensor = torch.load(self._points_file(checkpoint), weights_only=True)
            self._points().set_state(state)

    @property
    def _folder(self) -> Path:
        return Path(str(self.args.output_dir))

    def _points(self) -> torch.Generator:
        generator: torch.Generator = self.accelerator.unwrap_model(self.model).generator
        return generator

    def _points_file(self, folder: str) -> Path:
        return Path(folder) / f"points_{self.args.process_index}.pt"
