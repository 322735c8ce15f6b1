"""What Prometheus is told: counted at the server, and read from the engine when it asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from earthmind_lab.engine.base import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """Metrics of one app; its own registry, so that two apps in a process don't mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._asks = Counter(
            "earthmind_requests", "Asks by route and how they ended: done, failed, gone, refused",
            ["route", "outcome"], registry=self._registry,
        )  # fmt: skip
        self._seconds = self._histogram("earthmind_ask_seconds", "Until an ask had ended")
        self._first = self._histogram("earthmind_first_text_seconds", "Until the first text")

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ["route"], buckets=_SECONDS, registry=self._registry)

    def watch(self, engine: Engine) -> None:
        """Tell of this engine from now on."""
        self._registry.register(_OfEngine(engine))

    def spoke(self, route: str, seconds: float) -> None:
        """An answer has begun."""
        self._first.labels(route).observe(seconds)

    def ended(self, route: str, outcome: str, seconds: float) -> None:
        """An ask has ended."""
        self._asks.labels(route, outcome).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, route: str) -> None:
        """A request was refused before it became an ask."""
        self._asks.labels(route, "refused").inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class _OfEngine:
    """The engine's own numbers, at the time of asking."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Any]:
        """Metrics of prometheus_client."""
        stats = self._engine.stats()
        for name, about, value in (
            ("running", "Answers being written", stats.running),
            ("waiting", "Asks in the queue", stats.waiting),
        ):
            yield GaugeMetricFamily(f"earthmind_{name}", about, value=value)
        yield from self._of_replicas()
        asks = CounterMetricFamily(
            "earthmind_asks", "Asks of the engine by how they ended", labels=["outcome"]
        )
        for outcome in ("done", "failed", "cancelled"):
            asks.add_metric([outcome], getattr(stats, outcome))
        tokens = CounterMetricFamily("earthmind_tokens", "Tokens read and written", labels=["kind"])
        tokens.add_metric(["prefilled"], stats.tokens_prefilled)
        tokens.add_metric(["new"], stats.tokens_new)
        yield from (asks, tokens)
        for field, words in (("entries", "Things kept"), ("nbytes", "Bytes kept on the device")):
            gauge = GaugeMetricFamily(f"earthmind_kept_{field}", words, labels=["kind"])
            for kind, kept in stats.kept.items():
                gauge.add_metric([kind], getattr(kept, field))
            yield gauge
        for field in ("hits", "misses"):
            count = CounterMetricFamily(
                f"earthmind_kept_{field}", f"Look-ups among what is kept: {field}", labels=["kind"]
            )
            for kind, kept in stats.kept.items():
                count.add_metric([kind], getattr(kept, field))
            yield count

    def _of_replicas(self) -> Iterator[Any]:
        """Where the engine is several of them (`server.ray_app`)."""
        replicas = getattr(self._engine, "replicas", None)
        if replicas is None:
            return
        about = "Replicas that take questions"
        yield GaugeMetricFamily("earthmind_replicas", about, value=replicas)
        about = "Asks by the replica they went to: first of a conversation, home, away"
        visits = CounterMetricFamily("earthmind_visits", about, labels=["where"])
        for where, count in self._engine.visits.items():  # type: ignore[attr-defined]
            visits.add_metric([where], count)
        yield visits
