from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
import shutil
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from earthmind_lab.engine import load_engine
from earthmind_lab.errors import (
    EarthMindError,
    EngineError,
    EngineUnavailable,
    ModelNotFound,
    UnsafeCheckpoint,
)
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.settings import Settings

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model to damage."""
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def test_concurrent_loads_give_one_object_and_a_closed_one_is_replaced(folder):
    found, barrier = [], threading.Barrier(4)

    def load() -> None:
        barrier.wait()
        found.append(load_engine(folder, device="cpu"))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1
    found[0].close()
    fresh = load_engine(folder, device="cpu")
    assert fresh is not found[0]
    assert fresh.generate(Prompt(text="x"), Options(max_new_tokens=2)).usage.tokens_new == 2
    fresh.close()


def test_another_dtype_is_another_engine(folder):
    full, half = load_engine(folder, device="cpu"), load_engine(folder, dtype="bfloat16")
    assert full is not half
    assert (full.capabilities.dtype, half.capabilities.dtype) == ("float32", "bfloat16")
    assert half.generate(Prompt(text="x"), Options(max_new_tokens=2)).usage.tokens_new == 2
    full.close()
    half.close()


def test_revision_is_the_start_of_the_weight_hash(folder):
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    engine = load_engine(folder, device="cpu", revision=digest[:7])
    assert engine.capabilities.weight_hash == digest
    assert engine.revision == digest[:12]
    assert engine.capabilities.notice == "a random model"
    engine.close()
    with pytest.raises(ModelNotFound, match=digest[:12]):
        load_engine(folder, device="cpu", revision="abc")


def test_changed_weights_are_another_engine(folder):
    before = load_engine(folder, device="cpu")
    tensors = load_file(folder / WEIGHTS)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, folder / WEIGHTS, metadata={"format": "pt"})
    after = load_engine(folder, device="cpu")
    assert after.revision != before.revision
    before.close()
    after.close()


def test_other_words_beside_the_same_weights_are_another_engine(folder):
    before = load_engine(folder, device="cpu")
    assert load_engine(folder, device="cpu") is before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "notice": "changed by hand"}))
    after = load_engine(folder, device="cpu")
    assert (before.capabilities.notice, after.capabilities.notice) == (
        "a random model", "changed by hand",
    )  # fmt: skip
    assert after.revision == before.revision
    before.close()
    after.close()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "name", ["localhost:8123", "gpu-box.lab:80/v1", "[::1]:8123/", "1.2.3.4:5"]
)
def test_an_address_without_its_scheme_is_told_how_to_write_it(name, shared):
    with pytest.raises(ModelNotFound) as caught:
        load_engine(name, shared=shared)
    assert caught.value.change == f"load_engine('http://{name.partition('/')[0]}')"


def test_a_folder_may_be_called_like_an_address(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("box:8123")
    load_engine("box:8123", device="cpu").close()


@pytest.mark.parametrize(
    "name",
    [
        "/no/such/folder",
        "nano2",
        "~no-such-user/x",
    ],
)
def test_unknown_names_say_what_this_version_reads(name):
    with pytest.raises(ModelNotFound, match="'nano', or") as caught:
        load_engine(name)
    assert name in str(caught.value)


def test_a_file_is_not_a_model(folder):
    with pytest.raises(ModelNotFound, match="is a file"):
        load_engine(folder / WEIGHTS)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a/" * 3000, "\x00", "x:80/" + "a/" * 3000, "x:80/\x00"]
)
def test_a_text_that_is_no_name_is_no_model(name):
    with pytest.raises(ModelNotFound) as caught:
        load_engine(name)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["weights.pt", "model.BIN"])
def test_a_pickle_file_is_refused_with_the_remedy(folder, name):
    (folder / name).write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnsafeCheckpoint, match="save them as safetensors"):
        load_engine(folder / name)


def test_files_that_can_not_be_opened(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("gone")
    with pytest.raises(ModelNotFound, match="can't be read"):
        load_engine(folder)


def test_a_home_folder_of_nobody(folder, monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOME", "~nobody-here/cache")
    with pytest.raises(EarthMindError, match="EARTHMIND_HOME"):
        Settings.from_env()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelNotFound, match="no .*" + name.removeprefix("model")):
        load_engine(folder)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl"])
def test_a_pickle_is_refused_with_the_remedy(folder, suffix):
    (folder / WEIGHTS).unlink()
    (folder / f"weights{suffix}").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnsafeCheckpoint, match="safetensors"):
        load_engine(folder)


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"PK\x03\x04" + b"\x00" * 200])
def test_a_renamed_pickle_is_refused(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(UnsafeCheckpoint, match="something else"):
        load_engine(folder)


@pytest.mark.parametrize("keep", [0, 5, 500, -1])
def test_cut_off_weights_are_said_to_be_so(folder, keep):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:keep])
    with pytest.raises(ModelNotFound, match="cut off"):
        load_engine(folder)


def test_missing_tensors_are_not_replaced_by_random_numbers(folder):
    tensors = load_file(folder / WEIGHTS)
    name = "projector.1.weight"
    del tensors[name]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(EngineError, match=name):
        load_engine(folder)
    save_file({**tensors, name: np.zeros((1, 1), np.float32)}, folder / WEIGHTS)
    with pytest.raises(EngineError, match=r"copy"):
        load_engine(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_broken_text_files_name_the_folder(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(EngineError, match="copy"):
        load_engine(folder)


def test_another_architecture_is_not_filled_up_with_defaults(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    with pytest.raises(ModelNotFound, match="llama"):
        load_engine(folder)


def test_config_and_tokenizer_of_two_models(folder):
    config = json.loads((folder / "config.json").read_text())
    config["seg_token_id"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"\[SEG\]"):
        load_engine(folder)


def test_devices_and_dtypes_that_do_not_exist(folder, monkeypatch):
    with pytest.raises(EngineUnavailable, match="cuda:99"):
        load_engine(folder, device="cuda:99")
    with pytest.raises(EngineUnavailable, match="abacus"):
        load_engine(folder, device="abacus")
    with pytest.raises(EngineError, match="float32"):
        load_engine(folder, device="cpu", dtype="int3")
    monkeypatch.setenv("EARTHMIND_DEVICE", "cuda:99")
    with pytest.raises(EngineUnavailable, match="cuda:99"):
        load_engine(folder)


def test_without_torch_the_extra_is_named(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    with pytest.raises(EngineUnavailable, match=r"earthmind-lab\[model\]"):
        load_engine(folder)
