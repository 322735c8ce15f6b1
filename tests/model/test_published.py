"""Names of published checkpoints, and the way from a name to a folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EngineError, ModelNotFound
from earthmind_lab.model import EarthMindForConditionalGeneration
from earthmind_lab.model.config import TEMPLATES
from earthmind_lab.model.published import MODELS, PATTERNS, local_folder, row_of
from tests.model.test_convert import upstream_folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of a hub that answers every request with the tiny published folder."""
    folder, calls = upstream_folder(tmp_path / "snapshot"), []

    def snapshot(hub_id: str, **options: Any) -> str:
        calls.append({"hub_id": hub_id, **options})
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return calls


def test_rows_are_complete() -> None:
    assert len({row.alias for row in MODELS}) == len({row.hub_id for row in MODELS}) == len(MODELS)
    for row in MODELS:
        assert row.template in TEMPLATES
        assert row.licence
        assert row_of(row.alias.lower()) is row_of(row.hub_id) is row
        assert 7e9 < row.bytes_at_bf16 < 9e9
    assert {row.fusion for row in MODELS} == {"concatenate", "weighted"}
    assert row_of("nano") is None


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row.alias)
def test_an_alias_is_fetched_without_code_and_brings_its_fusion(
    row: Any, hub: list[dict[str, Any]]
) -> None:
    model = EarthMindForConditionalGeneration.from_pretrained(row.alias)
    assert model.config.fusion == row.fusion
    assert hub == [
        {"hub_id": row.hub_id, "revision": row.revision, "allow_patterns": list(PATTERNS)}
    ]
    assert not any("py" in pattern or "bin" in pattern for pattern in PATTERNS)
    other = EarthMindForConditionalGeneration.from_pretrained(row.hub_id, fusion="concatenate")
    assert other.config.fusion == "concatenate"


def test_an_engine_by_alias_says_what_it_is(hub: list[dict[str, Any]]) -> None:
    engine = load_engine("EarthMind-4B-multi", device="cpu", revision="0123abc")
    again = load_engine("earthmind-4b-multi", device="cpu", revision="0123abc")
    other = load_engine("EarthMind-4B-multi", device="cpu", fusion="concatenate")
    try:
        assert hub[0]["revision"] == "0123abc"
        assert again is engine
        assert other is not engine
        assert (engine.name, engine.capabilities.fusion) == ("EarthMind-4B-multi", "weighted")
        assert other.capabilities.fusion == "concatenate"
        assert engine.capabilities.licence == "not stated"
    finally:
        engine.close()
        other.close()


def test_unpinned_is_said(hub: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        local_folder("somebody/some-model")
        local_folder("somebody/some-model", "abc")
    assert [record.message for record in caplog.records] == [
        "somebody/some-model is not pinned to a commit: pass revision=... to always get the same"
    ]
    assert [call["revision"] for call in hub] == [None, "abc"]


def test_without_a_network_the_way_out_is_named() -> None:
    with pytest.raises(ModelNotFound, match="neither in the local cache nor can it be fetched"):
        local_folder("EarthMind-4B")


@pytest.mark.parametrize("name", ["a/b/c", "../x", "/", "x", "a/..", "a b/c", "\0", "é/x"])
def test_other_names_are_not_asked_for(name: str, hub: list[dict[str, Any]]) -> None:
    with pytest.raises(EngineError):
        load_engine(name + "-missing" if name in ("/",) else name)
    assert not hub


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(EngineError, match="no fusion 'mixed'"):
        load_engine("nano", fusion="mixed")  # type: ignore[arg-type]
