"""Requests of cells and of widgets at once, to real kernels: none is forgotten."""

from __future__ import annotations

import os
import queue
import subprocess
import time
from pathlib import Path

import pytest
from jupyter_client import KernelManager

from scripts.apart import KERNELS, folder_of, install

ROOT = Path(__file__).parents[1]
REMIND = "from earthmind_lab.kernel import remind_kernel; remind_kernel()"
START_SECONDS, LOST_SECONDS, ROUNDS, EACH = 120.0, 10.0, 60, 6


@pytest.fixture(params=KERNELS)
def kernel(request, tmp_path):
    """Kernel of one version, and its client."""
    install("ipykernel", request.param)
    path = [str(each) for each in (folder_of("ipykernel", request.param), ROOT) if each]
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "IPYTHONDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(START_SECONDS)
        yield request.param, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def rounds_kept(client, seconds):
    """How many rounds of requests to a shell and a subshell are answered, one by one."""
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    beside = client.get_control_msg(timeout=START_SECONDS)["content"]["subshell_id"]
    for number in range(ROUNDS):
        asked = set()
        for place in range(EACH):
            message = client.session.msg("kernel_info_request", {})
            if (number + place) % 2:
                message["header"]["subshell_id"] = beside
            client.shell_channel.send(message)
            asked.add(message["header"]["msg_id"])
            time.sleep(0.0003 * (number % 5))  # replies and requests cross in many ways
        end = time.monotonic() + seconds
        while asked:
            try:
                reply = client.get_shell_msg(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return number
            asked.discard(reply["parent_header"]["msg_id"])
    return ROUNDS


def test_a_reminded_kernel_answers_every_request(kernel):
    _, client = kernel
    client.execute_interactive(REMIND, timeout=START_SECONDS)
    assert rounds_kept(client, LOST_SECONDS) == ROUNDS


def test_without_it_some_kernels_forget_requests(kernel):
    """Fails when a version no longer needs it, or a new one does."""
    version, client = kernel
    assert (rounds_kept(client, LOST_SECONDS / 5) < ROUNDS) == (version == "7.3.0")
