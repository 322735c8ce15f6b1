"""Half an hour of everything at once on one engine behind the real server.

    [EARTHMIND_SOAK_MINUTES=30] python -m tests.soak.soak

Seats ask about chips seen before and new ones, go on with a conversation, hang up, send nonsense;
some are batch. Meanwhile workers are killed and the cache shrinks and grows. Each answer must have
the token ids of the question asked alone (of another engine, in this process). Each minute the
seats pause and the server's process is measured. Its memory swings by several per cent from minute
to minute, with whom the killed worker left what; so the median of the first third of the minutes
after the warm-up is compared with that of the last third, and they must agree within 5 %. Prints a
line a minute; exit code 1 if anything went wrong.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from earthmind_lab import AOI, load_chip, load_engine, search_pairs
from earthmind_lab.data.samples import place
from earthmind_lab.engine.remote import RemoteEngine
from earthmind_lab.errors import Cancelled, EarthMindError, EngineBusy
from earthmind_lab.exchange import Options, Prompt, Turn, View
from earthmind_lab.render import render

SEATS, WAIT = 6, 180.0
KEPT, TINY = 8 << 20, (0, 1 << 20)
"""Bytes that the engine keeps, mostly and now and then."""
FLAT = 0.05
"""How much more memory the last third may take than the first one."""
QUESTIONS = (
    "Segment the water.",
    "Segment the buildings.",
    "Describe the image.",
    "Is there snow?",
    "How many buildings are there?",
)


@dataclass
class Minute:
    """What was measured at the end of a minute."""

    number: int
    counts: Counter[str]
    memory: dict[str, int]

    def __str__(self) -> str:
        had, held = self.counts, self.memory
        numbers = [had[name] for name in COLUMNS]
        sizes = [held["main"] / 1e6, held["device"] / 1e6, held["kept"] / 1e6]
        others = [held["rows"], held["threads"], held["files"]]
        return f"{self.number:6d}" + "".join(
            [f"{number:10d}" for number in numbers]
            + [f"{size:10.1f}" for size in sizes]
            + [f"{number:8d}" for number in others]
        )


COLUMNS = ("asked", "follow", "batch", "cancelled", "busy", "refused", "killed", "wrong")
HEAD = "minute" + "".join(
    [f"{name:>10}" for name in (*COLUMNS, "main MB", "device MB", "kept MB")]
    + [f"{name:>8}" for name in ("rows", "threads", "files")]
)


@dataclass
class Report:
    """What came of it."""

    minutes: list[Minute] = field(default_factory=list)
    warm: int = 1
    """Minutes of warm-up."""
    faults: list[str] = field(default_factory=list)

    def growth(self, kind: str) -> float:
        """Share by which memory grew, from the first third after the warm-up to the last."""
        held = self.held(kind)
        third = max(1, len(held) // 3)
        first, last = statistics.median(held[:third]), statistics.median(held[-third:])
        return (last - first) / first if first else float(last > 0)

    def held(self, kind: str) -> list[int]:
        """Bytes of each minute since the end of the warm-up."""
        return [
            minute.memory[kind] for minute in self.minutes[min(self.warm, len(self.minutes)) - 1 :]
        ]


class Alone:
    """Answers of an engine that nobody else asks; each is made once."""

    def __init__(self) -> None:
        self._engine = load_engine("nano")
        self._lock = threading.Lock()

    def answer(self, prompt: Prompt, options: Options) -> tuple[tuple[int, ...], str]:
        """Token ids and text."""
        with self._lock:
            reply = self._engine.generate(prompt, Options(max_new_tokens=options.max_new_tokens))
        return reply.token_ids, reply.text


class Host:
    """The server's process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # each killed worker writes its trace there
            text=True,
        )
        self.url = self._read()["url"]

    def tell(self, words: str) -> Any:
        """Say something and hear what it answers."""
        with self._lock:
            assert self.process.stdin is not None
            self.process.stdin.write(words + "\n")
            self.process.stdin.flush()
            return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server's process ended: {self.process.wait(WAIT)}")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


class Soak:
    """One campaign.

    Args:
        seed: Decides what each seat does.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._alone, self._counts, self._lock = Alone(), Counter[str](), threading.Lock()
        self._paused, self._over = threading.Event(), threading.Event()
        self._busy = 0
        self.faults: list[str] = []
        self._chips = [_views("spain"), _views("denmark")]
        self._host = Host()

    def run(self, minutes: float, *, seconds_each: float = 60.0) -> Report:
        """Go on for so long; a line is printed for each minute.

        Args:
            minutes: How many.
            seconds_each: How long one is.
        """
        report = Report(warm=max(1, round(minutes / 5)), faults=self.faults)
        threads = [threading.Thread(target=self._seat, args=(n,)) for n in range(SEATS)]
        threads += [threading.Thread(target=each) for each in (self._nonsense, self._trouble)]
        self._host.tell(f"cache {KEPT}")
        for thread in threads:
            thread.start()
        print(HEAD, flush=True)
        try:
            for number in range(1, max(1, round(minutes)) + 1):
                time.sleep(seconds_each * min(1.0, minutes))
                report.minutes.append(self._measured(number))
                print(report.minutes[-1], flush=True)
        finally:
            self._over.set()
            self._paused.clear()
            for thread in threads:
                thread.join(2 * WAIT)
                if thread.is_alive():
                    self.faults.append("a seat hangs")
            self._host.close()
        return report

    # --- who asks ----------------------------------------------------------------------------

    def _seat(self, number: int) -> None:
        chance = random.Random(self._seed * 1000 + number)
        engine = RemoteEngine(self._host.url)
        try:
            while not self._over.is_set():
                with self._at_work():
                    self._something(chance, engine, seat=f"seat {number}")
        except Exception as error:  # noqa: BLE001  told at the end; the others go on
            self.faults.append(f"seat {number}: {type(error).__name__}: {error}")
        finally:
            engine.close()

    def _something(self, chance: random.Random, engine: RemoteEngine, *, seat: str) -> None:
        views = chance.choice(self._chips)
        if chance.random() < 0.4:
            views = _moved(views, chance)
            self._count("new")
        batch = chance.random() < 0.3
        options = Options(
            max_new_tokens=chance.choice((8, 24, 48)), seat=seat, priority=-1 if batch else 0
        )
        prompt = Prompt(text=chance.choice(QUESTIONS), views=views)
        self._count("batch" if batch else "interactive")
        if chance.random() < 0.15:
            self._hung_up(chance, engine, prompt, options)
            return
        text = self._asked(engine, prompt, options)
        if text is not None and chance.random() < 0.3:
            self._count("follow")
            turn = Turn(question=prompt.text, reply=text)
            again = Prompt(text=chance.choice(QUESTIONS), views=views, history=(turn,))
            self._asked(engine, again, options)

    def _asked(self, engine: RemoteEngine, prompt: Prompt, options: Options) -> str | None:
        try:
            reply = engine.submit(prompt, options).result(WAIT)
        except EngineBusy:
            self._count("busy")
            return None
        ids, text = self._alone.answer(prompt, options)
        self._count("asked")
        if reply.token_ids != ids:
            self._count("wrong")
            self.faults.append(f"{prompt.text!r}, {len(prompt.history)} turns before: {reply.text}")
        return text

    def _hung_up(
        self, chance: random.Random, engine: RemoteEngine, prompt: Prompt, options: Options
    ) -> None:
        try:
            handle = engine.submit(prompt, options)
            time.sleep(chance.uniform(0, 0.5))
            handle.cancel()
            handle.result(WAIT)
        except Cancelled:
            self._count("cancelled")
        except EngineBusy:
            self._count("busy")

    def _nonsense(self) -> None:
        """Requests that must be refused, each with an error of the client."""
        chance = random.Random(self._seed)
        junk = chance.randbytes(2000)
        chat = {"model": "earthmind-nano", "messages": "none"}
        requests: list[dict[str, Any]] = [
            {"method": "POST", "url": "/v1/earthmind/ask", "content": junk},
            {"method": "POST", "url": "/v1/earthmind/ask", "content": bytes(5 << 20)},
            {"method": "POST", "url": "/v1/chat/completions", "json": chat},
            {"method": "POST", "url": "/v1/chat/completions", "content": b"{" * 9000},
            {"method": "GET", "url": "/v1/models/none"},
            {"method": "GET", "url": "/nowhere"},
        ]
        with httpx.Client(base_url=self._host.url, timeout=WAIT, trust_env=False) as client:
            while not self._over.wait(chance.uniform(0.2, 1.5)):
                with self._at_work():
                    request = chance.choice(requests)
                    try:
                        status = client.request(**request).status_code
                    except httpx.WriteError:  # hung up in the middle of a body that is too long
                        status = 413
                    self._count("refused")
                    if not 400 <= status < 500:
                        self.faults.append(f"{request['method']} {request['url']}: {status}")

    def _trouble(self) -> None:
        """Workers die, and the cache is tiny for a while."""
        chance = random.Random(self._seed + 1)
        try:
            while not self._over.wait(chance.uniform(0.5, 8.0)):
                with self._at_work():
                    if chance.random() < 0.7:
                        self._count("killed", self._host.tell("kill"))
                    else:
                        self._host.tell(f"cache {chance.choice(TINY)}")
                        self._over.wait(3.0)
                        self._host.tell(f"cache {KEPT}")
        except Exception as error:  # noqa: BLE001  as above
            self.faults.append(f"the server: {error}")

    # --- counting ----------------------------------------------------------------------------

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Not while the server is measured."""
        while True:
            with self._lock:
                if not self._paused.is_set():
                    self._busy += 1
                    break
            self._over.wait(0.05)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def _measured(self, number: int) -> Minute:
        """Everybody pauses, and the cache is filled in the same way each time."""
        self._paused.set()
        until = time.monotonic() + 2 * WAIT
        while self._busy:
            if time.monotonic() > until:
                self.faults.append("an ask hangs")
                break
            time.sleep(0.02)
        engine = RemoteEngine(self._host.url)
        try:
            for views in self._chips:
                prompt = Prompt(text=QUESTIONS[0], views=views)
                with suppress(EarthMindError):
                    engine.submit(prompt, Options(max_new_tokens=24)).result(WAIT)
            held = self._host.tell("memory")
        finally:
            engine.close()
        if held["rows"]:
            self.faults.append(f"{held['rows']} rows nobody owns")
        with self._lock:
            counts, self._counts = self._counts, Counter()
        self._paused.clear()
        return Minute(number, counts, held)


def _views(name: str) -> tuple[View, ...]:
    """What the model is shown of one of the sample scenes."""
    where = place(name)
    aoi = AOI.from_bbox(*where.bbox)
    pair = search_pairs(aoi, dates=where.dates, sensors=where.sensors)[0]
    return tuple(render(load_chip(pair, aoi)))


def _moved(views: tuple[View, ...], chance: random.Random) -> tuple[View, ...]:
    """A chip that nobody has seen: another place's worth of the same pixels."""
    by = chance.randrange(1 << 16), chance.randrange(1 << 16)
    return tuple(
        View(
            image=np.roll(view.image, by, axis=(0, 1)).copy(),
            name=view.name,
            modality=view.modality,
            gsd=view.gsd,
        )
        for view in views
    )


def verdict(report: Report) -> list[str]:
    """What is wrong with a report."""
    wrong = list(report.faults)
    for kind in ("main", "device"):
        grown, held = report.growth(kind), report.held(kind)
        print(
            f"{kind} memory: {100 * grown:+.1f} % from the first to the last third of "
            f"{len(held)} minutes, {min(held) / 1e6:.0f} to {max(held) / 1e6:.0f} MB"
        )
        if grown > FLAT:
            wrong.append(f"{kind} memory grew by {100 * grown:.1f} %")
    total = sum((minute.counts for minute in report.minutes), Counter[str]())
    print(", ".join(f"{total[name]} {name}" for name in (*COLUMNS, "new")))
    return wrong


def main() -> None:
    """Run it."""
    os.chdir(Path(__file__).parents[2])
    minutes = float(os.environ.get("EARTHMIND_SOAK_MINUTES", "30"))
    wrong = verdict(Soak(seed=0).run(minutes))
    for line in wrong:
        print(f"WRONG: {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
