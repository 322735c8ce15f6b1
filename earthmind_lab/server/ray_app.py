"""The app over many replicas of a model: Ray Serve keeps them alive, on one machine or many.

    RayReplica   an engine in a process of its own (`replica`)
    Nearby       where an ask goes: to the replica that has seen its pictures, if that has room
    RayEngine    all replicas as one `Engine`, which the app serves like any other
    Start        brings them up

The app itself runs once, in the command's own process (`ray_run`): token, limits and streams are
the same as over one engine, and Ray sees nothing but prompts and replies. A replica that dies loses
no ask: it is asked again elsewhere, and what its client has read already isn't sent twice
(`engine.remote`).

The only file that imports ray; one machine with one engine never does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import ray
import ray.serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray._private import ray_constants
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from earthmind_lab.engine import wire
from earthmind_lab.engine.base import Stats
from earthmind_lab.engine.link import EVENTS, Lost, Way
from earthmind_lab.engine.remote import RemoteEngine
from earthmind_lab.engine.remote_ask import RemoteAsk
from earthmind_lab.errors import EarthMindError, EngineBusy, EngineError, EngineUnavailable
from earthmind_lab.exchange import Event
from earthmind_lab.server.homes import Homes, conversation, homes_of
from earthmind_lab.server.replica import Replica, summed
from earthmind_lab.server.run import GRACE_SECONDS

ONGOING = 32
"""Asks of one replica under way, waiting ones included; the next goes to another replica."""
QUEUED = 256
"""Asks that may wait for any replica."""
BUSY = 8
"""Asks per replica above which another one is started, where that is allowed."""
RETRY_SECONDS = (0.1, 0.5, 2.0)
"""Few: a question that kills whoever reads it must not go round them all."""
START_SECONDS = 900.0
"""In which the first replicas must have loaded their model."""
CALL_SECONDS = 30.0
STATS_SECONDS = 5.0
T = TypeVar("T")
_RAY: Any = ray  # its functions carry no types
add_port: Any = add_port_to_grpc_server


class RayReplica(Replica):
    """A replica that Ray keeps.

    Serve opens a port in each, for its own calls, that takes pickles from anybody; it asks for
    all addresses. This one is reached by the address of its node alone: loopback, where Ray is
    ours.

    Args:
        model: As `Replica` takes it.
    """

    def __init__(self, model: str) -> None:
        from ray.serve._private import replica as of_serve

        within: Any = of_serve
        within.add_port_to_grpc_server = _on_own_address
        super().__init__(model)


def _on_own_address(server: Any, wanted: str) -> int:
    """`add_port_to_grpc_server` of Ray, on this node's address and the wanted port."""
    address = _RAY.util.get_node_ip_address()
    port: int = add_port(server, f"{address}:{wanted.rpartition(':')[2]}")
    return port


class Nearby(RequestRouter):
    """Sends an ask home (`Homes`), and where there is no room, to the least busy of the others."""

    def initialize_state(self, **_: Any) -> None:
        """Called once by Serve."""
        self._homes = homes_of(self.app_name)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Called by Serve: groups of replicas, to be tried one after the other."""
        if pending_request is None or not candidate_replicas:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # wait where nobody has room
        key = pending_request.metadata.session_id
        if not key:
            return [candidate_replicas]
        tags = {each.replica_id.unique_id: each for each in candidate_replicas}
        home, *others = self._homes.rank(key, [*tags])
        return [[tags[home]], [tags[each] for each in others]]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve when replicas have come or gone."""
        super().update_replicas(replicas)
        self._homes.alive = len(self.curr_replicas)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Called by Serve when it meets a dead one."""
        super().on_replica_actor_died(replica_id)
        self._homes.alive = len(self.curr_replicas)


class _ToReplicas(Way):
    """The way to the replicas of an app, instead of HTTP.

    Args:
        handle: Of their deployment.
        homes: Where conversations went.
    """

    def __init__(self, handle: Any, homes: Homes) -> None:
        super().__init__("Ray", retry_seconds=RETRY_SECONDS, loading_seconds=0.0)
        self._handle, self._homes = handle, homes

    async def events(self, ask: RemoteAsk, body: bytes) -> AsyncGenerator[Event, None]:
        """Ask the replica that has seen the pictures; see `Way`."""
        key = await asyncio.to_thread(conversation, ask.prompt, ask.options.seat)
        response = self._handle.options(stream=True, session_id=key).ask.remote(body)
        try:
            async for said in response:
                if isinstance(said, tuple):
                    replica, weights = said
                    self.check_weights(weights)
                    self._homes.came(key, replica)
                    continue
                event: Any = wire.unpack(said, *EVENTS)
                yield event
        except (RayError, RayServeException) as error:
            raise _told(error) from error
        finally:
            response.cancel()  # no effect where it has ended

    async def fetch(self, name: str, kind: type[Any] | None, **request: Any) -> Any:
        """Ask any replica, or about `stats` all; see `Way`."""
        request.pop("method", None)
        try:
            if name == "stats":
                return await self._stats()
            async with asyncio.timeout(CALL_SECONDS):
                said = await getattr(self._handle, name).remote(*request.values())
        except (RayError, RayServeException) as error:
            raise _told(error) from error
        except TimeoutError as error:
            raise Lost(f"no replica answered in {CALL_SECONDS:g} s") from error
        return said if kind is None else wire.unpack(said, kind)

    async def _stats(self) -> Stats:
        """Of all replicas together; of those that don't answer in time, nothing."""
        response = self._handle.broadcast("stats")
        found = await response.results_async(timeout_s=STATS_SECONDS, return_exceptions=True)
        return summed([wire.unpack(each, Stats) for each in found if isinstance(each, bytes)])

    def unreachable(self, found: str) -> EngineUnavailable:
        """What to say when the last try was lost, too."""
        return EngineUnavailable(
            "Every replica that was asked died or went away.", found=found, change="ask again"
        )

    async def close(self) -> None:
        """Nothing to hang up."""


def _told(error: Exception) -> Exception:
    """What an error of Ray means for an ask."""
    if isinstance(error, BackPressureError):
        return EngineBusy(
            "All replicas are busy.", found=f"{QUEUED} asks waiting", change="ask again"
        )
    if isinstance(error, RayTaskError) and not isinstance(error, TaskCancelledError):
        cause = getattr(error, "cause", None)
        if isinstance(cause, EarthMindError):
            return cause
        return EngineError("The replica failed on this ask.", found=type(cause or error).__name__)
    return Lost(f"{type(error).__name__}: the replica died or went away")


class RayEngine(RemoteEngine):
    """The replicas of an app as one engine.

    Args:
        handle: Of their deployment.
        homes: Where conversations went.
    """

    def __init__(self, handle: Any, homes: Homes) -> None:
        self._homes = homes
        super().__init__("Ray", way=_ToReplicas(handle, homes))

    @property
    def replicas(self) -> int:
        """How many take questions."""
        return self._homes.alive

    @property
    def visits(self) -> dict[str, int]:
        """Asks by where they went: `Homes.visits`."""
        return dict(self._homes.visits)


# --- starting and stopping ------------------------------------------------------------------------


@contextmanager
def joined(address: str | None, *, cpus: int, own: dict[str, Any]) -> Iterator[None]:
    """Ray, of our own or somebody's; ours ends with all its processes.

    Args:
        address: Of a cluster; None = start one on this machine.
        cpus: That ours must have, as Ray counts them.
        own: Options of ours.

    Raises:
        EngineUnavailable: There is no cluster at the address, or ours doesn't start.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        try:
            _start(address, cpus, {**own, **quiet} if address is None else quiet)
        except Exception as error:  # a start that takes too long is a plain `Exception` of Ray's
            there = address is not None
            raise EngineUnavailable(
                f"There is no Ray cluster at {address}." if there else "Ray doesn't start here.",
                found=str(error)[:300],
                change="ray start --head there, and --ray with the address that it prints"
                if there else "try again where less is running, or give fewer --replicas",
            ) from error  # fmt: skip
        yield
    finally:
        ray.shutdown()


def _start(address: str | None, cpus: int, options: dict[str, Any]) -> None:
    if address is None:
        # As Ray does on macOS and Windows; elsewhere it listens on all addresses.
        ray_constants.ENABLE_RAY_CLUSTER = False
        ray.init("local", num_cpus=max(cpus, os.cpu_count() or 1), **options)
    else:
        ray.init(address, **options)


def share_of_gpus(asked: float | None, fewest: int, *, own: bool) -> float:
    """GPUs of each replica.

    Raises:
        EngineUnavailable: This machine hasn't as many; a cluster may still grow.
    """
    have = float(_RAY.cluster_resources().get("GPU", 0))
    each = asked if asked is not None else float(have > 0)
    if own and each * fewest > have:
        raise EngineUnavailable(
            f"{fewest} replicas with {each:g} GPUs each can't be had.",
            found=f"{have:g} GPUs on this machine",
            change="fewer --replicas, a part of a GPU each (--gpus 0.5), or a cluster (--ray)",
        )
    return each


class Start:
    """Starts the replicas: the `load` of `run.serve`, which calls it in a thread of its own.

    Args:
        model: Name or folder.
        replicas: Fewest and most.
        gpus: Of each.
    """

    def __init__(self, model: str, replicas: tuple[int, int], gpus: float) -> None:
        self.name = f"earthmind-{secrets.token_hex(4)}"
        self._model, self._replicas, self._gpus = model, replicas, gpus
        # Serve would start another Ray for whoever calls it after ours has ended.
        self._lock, self._stopped = threading.Lock(), False

    def stop(self) -> None:
        """Nothing of Ray is called from now on, but to `remove` the replicas."""
        with self._lock:
            self._stopped = True

    def remove(self) -> None:
        """Take the replicas away; not needed where Ray itself ends."""
        with suppress(RayServeException, RayError):
            ray.serve.delete(self.name)

    def __call__(self) -> RayEngine:
        """Start them and wait until the first ones are there.

        Raises:
            EngineUnavailable: They can't load the model, or not in time.
        """
        self._do(self._deploy)
        until = time.monotonic() + START_SECONDS
        while (found := self._do(self._status)) is None and time.monotonic() < until:
            time.sleep(0.2)
        if found != "":
            raise EngineUnavailable(
                "The replicas could not load the model.",
                found=found or f"they are not ready after {START_SECONDS:g} s",
                change="earthmind doctor --model with the same model; on each machine of a cluster",
            )
        return self._do(self._engine)

    def _do(self, what: Callable[[], T]) -> T:
        with self._lock:
            if self._stopped:
                raise EngineUnavailable("The server is being stopped.")
            return what()

    def _deploy(self) -> None:
        fewest, most = self._replicas
        scale: dict[str, Any] = {"num_replicas": fewest}
        if most > fewest:
            scale = {
                "autoscaling_config": AutoscalingConfig(
                    min_replicas=fewest, max_replicas=most, target_ongoing_requests=BUSY
                )
            }
        deployment: Any = ray.serve.deployment(
            RayReplica, name="engine", max_ongoing_requests=ONGOING, max_queued_requests=QUEUED,
            request_router_config=RequestRouterConfig(
                request_router_class=Nearby  # type: ignore[arg-type]  # it says so itself
            ),
            ray_actor_options={"num_cpus": 0 if self._gpus else 1, "num_gpus": self._gpus},
            graceful_shutdown_timeout_s=GRACE_SECONDS, max_constructor_retry_count=2, **scale,
        )  # fmt: skip
        ray.serve.start(proxy_location="Disabled")
        app = deployment.bind(self._model)
        target = ray.serve.RunTarget(app, name=self.name, route_prefix=None)
        ray.serve.run_many([target], wait_for_applications_running=False)

    def _status(self) -> str | None:
        """Nothing = they run; None = not yet; else why they don't."""
        app = ray.serve.status().applications.get(self.name)
        if app is None or app.status not in ("RUNNING", "DEPLOY_FAILED", "UNHEALTHY"):
            return None
        if app.status == "RUNNING":
            return ""
        said = [app.message, *(each.message for each in app.deployments.values())]
        return " ".join(said).strip()[-400:] or str(app.status)

    def _engine(self) -> RayEngine:
        return RayEngine(ray.serve.get_app_handle(self.name), homes_of(self.name))
