"""The OpenAPI document is true and complete: schemathesis finds no 5xx and nothing undescribed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.scripted import Scripted
from tests.server.served import TOKEN, served

ROOT = Path(__file__).parents[2]
# A schema can't say that questions and answers go by turns, so valid data may be refused.
NOT = "positive_data_acceptance"


@pytest.fixture
def document():
    with served(Scripted()) as server, server.client() as client:
        return client.get("/openapi.json").json()


def schemathesis(url, folder, *words):
    return subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
            "--header", f"Authorization: Bearer {TOKEN}", "--seed", "20261125", "--no-color",
            *words,
        ],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.server.schema_hooks",
             "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip


@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing(tmp_path):
    """A slice of it in the suite; EARTHMIND_REQUESTS examples per route in the soak."""
    with served(Scripted()) as server:
        run = schemathesis(
            server.url, tmp_path, "--max-examples", os.environ.get("EARTHMIND_REQUESTS", "30"),
            "--phases", "examples,coverage,fuzzing", "--checks", "all", "--exclude-checks", NOT,
            "--continue-on-failure",
        )  # fmt: skip
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert "10 selected / 10 total" in run.stdout


def test_schemathesis_would_find_a_crash(tmp_path):
    def crash(*_):
        raise RuntimeError("broken")

    with served(Scripted(crash)) as server:
        run = schemathesis(
            server.url, tmp_path, "--include-path", "/v1/chat/completions", "--phases", "fuzzing",
            "--max-examples", "30", "--checks", "not_a_server_error",
        )  # fmt: skip
    assert run.returncode == 1 and "Server error" in run.stdout, run.stdout[-3000:]


def test_every_route_says_how_it_fails(document):
    for path, methods in document["paths"].items():
        for about in methods.values():
            codes = set(about["responses"])
            assert {"200", "403", "408", "413", "503"} <= codes, path
            assert ("security" in about) == (path != "/health"), path
    asking = {"400", "401", "422", "429", "500", "504", "507"}
    for path in ("/v1/chat/completions", "/v1/earthmind/ask"):
        assert asking <= set(document["paths"][path]["post"]["responses"])
    assert "404" in document["paths"]["/v1/chat/completions"]["post"]["responses"]


def test_masks_and_endings_are_described(document):
    parts = document["components"]["schemas"]
    assert "COCO" in parts["Mask"]["description"]
    assert "repetition" in parts["Extension"]["properties"]["ended"]["description"]
    assert "nothing is ever fetched" in parts["ImageURL"]["properties"]["url"]["description"]
