"""A training whose processes Ray starts, on one machine or several.

What is told of it goes over the run's folder, which all machines share: the driver reads the log
that the first worker writes, and asks for an early end by a file that this worker looks for.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EngineError, EngineUnavailable
from earthmind_lab.finetune import checkpoints
from earthmind_lab.finetune.examples import Examples
from earthmind_lab.finetune.outcome import Run
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.watching import Watcher, on_interrupt
from earthmind_lab.progress import bar

LOOK_SECONDS = 0.5
"""Between two looks at the log."""
BEGAN, STOP = "began.json", "stop"
"""Files in the folder ``ray`` of the run: where it begins and ends, and that it should end now."""


def by_ray(
    recipe: Recipe,
    out: Path,
    sets: Mapping[str, Examples | None],
    watchers: Sequence[Watcher] = (),
    *,
    resume: bool = True,
) -> Run:
    """Train with Ray Train; each of its workers is a process of ``ddp``.

    Args:
        recipe: With ``parallel: kind: ray``; its ``config`` goes to ``ray.train.ScalingConfig``.
        out: Folder of the run, the same on every machine.
        sets: ``train``, ``validation``, ``guard`` and ``test``, where they aren't the recipe's;
            they travel.
        watchers: Told of it here.
        resume: As `run.finetune` takes it.

    Raises:
        EngineError: A worker failed.
        EngineUnavailable: Ray isn't there, or can't make such workers.
    """
    # By name: nothing else in this package may need Ray to be there.
    train: Any = importlib.import_module("ray.train")
    torch: Any = importlib.import_module("ray.train.torch")
    out = out.absolute()
    told = out / "ray"
    try:
        scaling = train.ScalingConfig(**recipe.parallel.config)
    except Exception as error:  # what it refuses it calls by many names
        raise EngineUnavailable(
            "parallel: config: isn't a ScalingConfig of Ray's.",
            found=_short(error),
            change="parallel={kind: ray, config: {num_workers: 2}}",
        ) from error
    told.mkdir(parents=True, exist_ok=True)
    for name in (BEGAN, STOP):
        (told / name).unlink(missing_ok=True)
    given = {
        "workers": recipe.replace("parallel={kind: ddp}"),
        "out": str(out),
        "here": str(Path.cwd()),
        "resume": resume,
        "sets": dict(sets),
    }
    with _ray(recipe.parallel.config.get("num_workers", 1)):
        trainer = torch.TorchTrainer(
            _work,
            train_loop_config=given,
            scaling_config=scaling,
            run_config=train.RunConfig(name=told.name, storage_path=str(out)),
        )
        _followed(trainer.fit, out, told, watchers)
    ended = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return Run(
        folder=out,
        recipe=recipe,
        adapter=out / "adapter" if ended["adapter"] else None,
        **{name: ended[name] for name in ("steps", "ended", "hash", "guard", "seconds")},
    )


@contextmanager
def _ray(workers: int) -> Iterator[None]:
    """The cluster that ``RAY_ADDRESS`` names, or a Ray of our own, which ends with this.

    Raises:
        EngineUnavailable: There is no cluster, or ours doesn't start.
    """
    ray: Any = importlib.import_module("ray")
    if ray.is_initialized():  # by whoever called this
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address is None:
            # Elsewhere than on Linux Ray does so by itself: it listens on loopback only.
            constants: Any = importlib.import_module("ray._private.ray_constants")
            constants.ENABLE_RAY_CLUSTER = False
            ray.init("local", num_cpus=max(int(workers) + 1, os.cpu_count() or 1),
                     include_dashboard=False)  # fmt: skip
        else:
            ray.init(address)
    except Exception as error:  # a start that takes too long is a plain `Exception` of Ray's
        ray.shutdown()
        there = address is not None
        raise EngineUnavailable(
            f"There is no Ray cluster at {address}." if there else "Ray doesn't start here.",
            found=_short(error),
            change="ray start --head there, and the address that it prints as RAY_ADDRESS"
            if there else "try again where less is running",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def _followed(fit: Callable[[], Any], out: Path, told: Path, watchers: Sequence[Watcher]) -> None:
    """Train, and tell of it meanwhile; Ctrl-C, or a watcher, asks for the end.

    Ray would answer Ctrl-C itself, by ending everything at once, if it trained on this thread.
    """
    failed: list[BaseException] = []

    def work() -> None:
        try:
            fit()
        except BaseException as error:  # noqa: BLE001 - told on the other thread
            failed.append(error)

    news = _News(out, told, watchers)
    worker = threading.Thread(target=work, name="ray-train", daemon=True)
    with on_interrupt((told / STOP).touch), news:
        worker.start()
        while worker.is_alive():
            worker.join(LOOK_SECONDS)
            news.tell()
            if any(watcher.stop for watcher in watchers):
                (told / STOP).touch()
    if failed:
        # Whatever Ray calls it, the worker's words are in it.
        raise EngineError(
            "A worker of Ray ended the training; the same command goes on from the last "
            "checkpoint.",
            found=str(failed[0]).strip()[-400:],
        ) from failed[0]


class _News:
    """Hands on the rows that a worker adds to the log.

    Args:
        out: Folder of the run.
        told: That of what worker and driver tell each other.
        watchers: Get the rows.
    """

    def __init__(self, out: Path, told: Path, watchers: Sequence[Watcher]) -> None:
        self._log, self._began, self._watchers = out / "losses.jsonl", told / BEGAN, watchers
        found = checkpoints.all_of(out / "checkpoints")
        self._after = checkpoints.step_of(found[-1]) if found else 0
        # A worker replaces the log before it adds to it: until then it is that of another time.
        self._old, self._read = _number(self._log), 0
        self._bar: Any = None
        self._told = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def tell(self) -> None:
        """What is new."""
        if not self._told:
            if not self._began.exists():
                return
            step, steps = json.loads(self._began.read_text(encoding="utf-8"))
            shown = any(watcher.shows_progress for watcher in self._watchers)
            self._bar = None if shown else bar(steps, unit="step", desc="training")
            for watcher in self._watchers:
                watcher.began(step, steps)
            self._told = True
        if _number(self._log) in (None, self._old):
            return
        with self._log.open("rb") as stream:
            stream.seek(self._read)
            whole, end, _ = stream.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        for row in map(json.loads, whole.splitlines()):
            if row["step"] <= self._after:
                continue
            for watcher in self._watchers:
                watcher.row(row)
            if "loss" in row and self._bar is not None:
                self._bar.update(row["step"] - self._bar.n)
                self._bar.set_postfix(loss=f"{row['loss']:.4f}")


class _ForDriver(Watcher):
    """In the first worker: tells the driver where it begins, and ends when that asks for it.

    Args:
        told: Folder of what they tell each other.
    """

    wants_answers = False

    def __init__(self, told: Path) -> None:
        self._told = told

    @property
    def stop(self) -> bool:  # type: ignore[override]
        """Whether the driver asks for it."""
        return (self._told / STOP).exists()

    def began(self, step: int, steps: int) -> None:
        """As `Watcher.began`."""
        checkpoints.write_json(self._told / BEGAN, [step, steps])


def _work(given: dict[str, Any]) -> None:
    from earthmind_lab.finetune.run import finetune

    # Ray puts each worker into a folder of its own; paths of a recipe are told from the driver's.
    if Path(given["here"]).is_dir():
        os.chdir(given["here"])
    out = Path(given["out"])
    finetune(
        given["workers"],
        out=out,
        resume=given["resume"],
        watch=[_ForDriver(out / "ray")],
        **given["sets"],
    )


def _number(file: Path) -> int | None:
    """Of the file on its disk; None = there is none."""
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
