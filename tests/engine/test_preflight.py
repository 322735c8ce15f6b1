"""What a model needs on a device, what is chosen, and how that is said."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from earthmind_lab.engine import load_engine, loading
from earthmind_lab.engine.preflight import Preflight, check_bits, preflight
from earthmind_lab.engine.room import Room
from earthmind_lab.engine.weights import PUBLISHED, Weights, find_weights
from earthmind_lab.errors import EngineError, EngineUnavailable, ModelNotFound, OutOfDeviceMemory
from scripts.apart import TORCHAO, folder_of, install
from tests.engine import hollow, tiny

GOLDEN = Path(__file__).parents[1] / "golden" / "parity"
GB = 10**9
FULL, NANO = PUBLISHED[0], find_weights("nano")
CPU, GPU = "cpu", "cuda:0"


def rooms(**free: float | None) -> Callable[[str], Room]:
    """Devices with so many GB free; a GPU's name without its number."""

    def look(device: str) -> Room:
        some = free.get(device.partition(":")[0], 0)
        if some is None:
            return Room(device=device)
        return Room(device=device, free=int(some * GB), total=int(some * GB) + GB)

    return look


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hollow.write(tmp_path_factory.mktemp("models") / "EarthMind-4B-copy")


@pytest.mark.parametrize(
    ("weights", "device", "free", "dtype", "squares", "fits"),
    [
        (NANO, CPU, 0.1, "float32", 1, True),
        (NANO, CPU, 0.02, "float32", 1, False),
        (NANO, GPU, 1, "float32", 1, True),
        (NANO, GPU, 80, "float32", 1, True),
        (FULL, CPU, 64, "float32", 12, True),
        (FULL, CPU, 16, "bfloat16", 12, True),
        (FULL, CPU, 8.72, "bfloat16", 6, True),
        (FULL, CPU, 8.5, "bfloat16", 1, False),
        (FULL, GPU, 80, "bfloat16", 12, True),
        (FULL, GPU, 24, "bfloat16", 12, True),
        (FULL, GPU, 9.25, "bfloat16", 6, True),
        (FULL, GPU, 9.12, "bfloat16", 2, True),
        (FULL, GPU, 9, "bfloat16", 1, False),
        (FULL, GPU, None, "bfloat16", 12, True),
        (PUBLISHED[1], GPU, 24, "bfloat16", 12, True),
    ],
)
def test_the_choice(weights, device, free, dtype, squares, fits):
    plan = preflight(weights, device, look=rooms(**{device.partition(":")[0]: free}))
    assert (plan.dtype, plan.squares, plan.fits, plan.bits) == (dtype, squares, fits, None)
    assert bool(plan.remedies) is not fits


def test_more_room_is_never_worse():
    ways = [preflight(FULL, CPU, look=rooms(cpu=free / 10)) for free in range(70, 200)]
    ranks = [(plan.fits, plan.dtype == "float32", plan.squares) for plan in ways]
    assert ranks == sorted(ranks)
    assert all(plan.needs <= (plan.room.free or 0) for plan in ways if plan.fits)


def test_what_was_asked_for_stays():
    plan = preflight(FULL, GPU, dtype="float32", look=rooms(cuda=24))
    assert (plan.dtype, plan.fits) == ("float32", True)
    assert not plan.compromised
    plan = preflight(FULL, GPU, dtype="float32", look=rooms(cuda=12))
    assert (plan.dtype, plan.fits) == ("float32", False)
    assert plan.remedies[0] == "dtype='bfloat16'"
    plan = preflight(FULL, GPU, bits=8, look=rooms(cuda=7.1))
    assert (plan.bits, plan.fits, plan.squares) == (8, True, 12)


def test_a_lowered_limit_says_what_side_is_left():
    plan = preflight(FULL, GPU, look=rooms(cuda=9.25))
    assert (plan.squares, plan.max_side_px) == (6, 896)
    assert plan.compromised
    assert str(plan).endswith("fits; views of at most 896 px")
    assert preflight(FULL, GPU, look=rooms(cuda=24)).max_side_px is None


def test_one_line():
    line = str(preflight(FULL, GPU, look=rooms(cuda=21.3)))
    assert line == (
        "EarthMind-4B on cuda:0: weights 7.9 GB in bfloat16, 0.9 GB for a pair of 12 tiles each; "
        "21.3 of 22.3 GB free: fits"
    )
    line = str(preflight(FULL, CPU, look=rooms(cpu=16)))
    assert line.endswith("16.0 of 17.0 GB free: fits, float32 would not")
    line = str(preflight(FULL, GPU, look=rooms(cuda=7)))
    assert line.endswith("7.0 of 8.0 GB free: does not fit, 2.0 GB short; quantize=8 would")
    assert str(preflight(FULL, GPU, look=rooms(cuda=None))).endswith("free memory not known: fits")


def test_the_refusal_names_needs_free_and_the_plan():
    error = preflight(FULL, GPU, look=rooms(cuda=7, cpu=64)).refused()
    assert isinstance(error, OutOfDeviceMemory)
    assert str(error) == (
        "EarthMind-4B does not fit on cuda:0 in bfloat16. Found: 9.0 GB needed, 7.0 of 8.0 GB "
        "free. Try: quantize=8, or device='cpu', or a device with 9.1 GB free."
    )


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
@pytest.mark.parametrize("free", [1, 4, 6.2, 7, 8.9, 9.1, 12, 17.2])
def test_what_a_remedy_promises_is_kept(dtype, free):
    look = rooms(cuda=free, cpu=18)
    plan = preflight(FULL, GPU, dtype=dtype, look=look)
    for remedy in plan.remedies[:-1]:
        changed = {
            "dtype='bfloat16'": {"dtype": "bfloat16"},
            "quantize=8": {"dtype": dtype, "bits": 8},
            "dtype='bfloat16' with quantize=8": {"dtype": "bfloat16", "bits": 8},
            "device='cpu'": {"dtype": dtype, "device": CPU},
        }[remedy]
        device = str(changed.pop("device", GPU))
        assert preflight(FULL, device, look=look, **changed).fits
    assert (
        plan.fits or preflight(FULL, GPU, dtype=dtype, look=rooms(cuda=plan.needs / GB + 1e-6)).fits
    )


def test_the_numbers_behind_the_line_add_up():
    plan = preflight(FULL, GPU, look=rooms(cuda=7))
    lines = plan.explain()
    assert lines[0] == (
        "Weights: 15.8 GB in float32, 7.9 GB in bfloat16, 5.1 GB with an 8-bit language part."
    )
    assert "36.9 kB each" in lines[1]
    assert lines[-1].startswith("What would fit: quantize=8")
    assert plan.needs > plan.weights.nbytes("bfloat16") + plan.ask
    assert len(preflight(NANO, CPU, look=rooms(cpu=1)).explain()) == 5


def test_a_model_of_another_kind_is_weighed_by_its_weights_alone():
    other = Weights(name="other", numbers=2 * GB, stored=4 * GB)
    plan = preflight(other, GPU, look=rooms(cuda=5))
    assert (plan.fits, plan.squares, plan.ask, plan.lowered) == (True, None, 0, False)
    assert str(plan) == "other on cuda:0: weights 4.0 GB in bfloat16; 5.0 of 6.0 GB free: fits"
    assert "not known" in plan.explain()[1]
    assert not preflight(other, GPU, look=rooms(cuda=4)).fits


# --- what is known of a model ---------------------------------------------------------------------


def test_the_table_knows_what_the_files_of_the_4b_model_say(folder):
    found = Weights.of(folder)
    assert found.sizes == FULL.sizes
    assert found.language == FULL.language
    assert (found.numbers, found.other) == (FULL.numbers, 0)
    assert replace(FULL, name="", stored=0) == replace(found, name="", stored=0)


def test_headers_of_our_own_layout_and_of_the_published_one(tmp_path, tiny_folder):
    ours = Weights.of(tiny_folder)
    assert ours.stored > ours.numbers * 4  # the header
    assert ours.nbytes("float32") == ours.numbers * 4 + ours.other
    assert ours.language == 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64)
    (tmp_path / "model.safetensors").symlink_to(GOLDEN / "tiny_a.model.safetensors")
    spec = json.loads((GOLDEN / "tiny_a.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**spec["config"], "sam2": spec["sam2"]}))
    published = Weights.of(tmp_path)
    assert published.sizes is not None
    assert published.sizes.mask_px == spec["sam2"]["image_size"]
    assert published.language == 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)


def test_nano_is_small_and_its_needs_too():
    assert NANO.small
    assert NANO.name == "earthmind-nano"
    assert NANO.sizes is not None
    assert NANO.sizes.most_tiles == 1
    assert not FULL.small


@pytest.mark.parametrize("name", ["nowhere", "someone/somewhere", "x" * 5000])
def test_what_is_not_here_is_not_fetched(name):
    with pytest.raises(ModelNotFound, match="on this machine"):
        find_weights(name)


def test_a_config_without_sizes_is_named(tmp_path, tiny_folder):
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text('{"text_config": {}, "vision_config": {}}')
    with pytest.raises(ModelNotFound, match="does not describe"):
        Weights.of(tmp_path)


# --- loading --------------------------------------------------------------------------------------


@pytest.fixture
def unread(monkeypatch):
    """Fails as soon as a weight is read."""

    def read(*_, **__):
        raise AssertionError("weights were read")

    monkeypatch.setattr(loading, "weight_hash", read)
    monkeypatch.setattr(loading, "_load", read)


def test_what_can_not_fit_is_refused_before_a_weight_is_read(folder, monkeypatch, unread):
    monkeypatch.setattr(loading, "room_of", rooms(cpu=4))
    with pytest.raises(OutOfDeviceMemory, match=r"8\.5 GB needed, 4\.0 of 5\.0 GB free"):
        load_engine(folder, device=CPU)
    with pytest.raises(OutOfDeviceMemory, match="in float32"):
        load_engine(folder, device=CPU, dtype="float32")
    monkeypatch.setattr(loading, "room_of", rooms(cpu=64))
    with pytest.raises(AssertionError, match="weights were read"):
        load_engine(folder, device=CPU)


def test_nano_never_looks_at_the_device(monkeypatch, caplog, tiny_folder):
    def look(device: str) -> Room:
        raise AssertionError(f"{device} was looked at")

    monkeypatch.setattr(loading, "room_of", look)
    with caplog.at_level(logging.INFO):
        load_engine(tiny_folder, device=CPU).close()
    assert not caplog.records


@pytest.fixture
def large(monkeypatch, tmp_path):
    """A tiny model of several tiles that is treated as a large one, and what one pair of it takes.

    Gives a function from free bytes to a room.
    """
    folder = tiny.save(tmp_path / "large", max_dynamic_patch=6)
    monkeypatch.setattr(Weights, "small", False)

    def free(nbytes: int) -> Path:
        room = Room(device=CPU, free=nbytes, total=GB)
        monkeypatch.setattr(loading, "room_of", lambda _: room)
        return folder

    return free


def plan_of(folder: Path, dtype: str, squares: int) -> Preflight:
    return Preflight(
        weights=Weights.of(folder), room=Room(device=CPU), dtype=dtype, squares=squares
    )


def test_the_chosen_limit_holds_in_the_engine_and_is_said_once(large, caplog):
    needs = plan_of(large(0), "bfloat16", 4).needs
    with caplog.at_level(logging.INFO):
        engine = load_engine(large(needs + 100), device=CPU)
    try:
        assert engine.capabilities.dtype == "bfloat16"
        assert engine.capabilities.max_side_px == 2 * tiny.SIDE
        picture = tiny.view(side=5 * tiny.SIDE)
        assert len(engine.pictures((picture,))[0]) <= 4 + 1
        (said,) = caplog.records
        assert said.levelno == logging.WARNING
        assert said.getMessage().endswith(f"float32 would not; views of at most {2 * tiny.SIDE} px")
        # Its own memory is not counted against what is there already.
        assert load_engine(large(0), device=CPU) is engine
        assert load_engine(large(0), device=CPU, dtype="bfloat16") is engine
        with pytest.raises(OutOfDeviceMemory):
            load_engine(large(0), device=CPU, dtype="float16")
    finally:
        engine.close()
    with pytest.raises(OutOfDeviceMemory):
        load_engine(large(0), device=CPU)


def test_with_room_nothing_is_lowered_and_the_line_is_quiet(large, caplog):
    folder = large(GB)
    with caplog.at_level(logging.INFO):
        engine = load_engine(folder, device=CPU)
    engine.close()
    assert engine.capabilities.dtype == "float32"
    assert engine.capabilities.max_side_px == 2 * tiny.SIDE  # of 6 tiles, as without preflight
    assert [record.levelno for record in caplog.records] == [logging.INFO]


# --- fewer bits -----------------------------------------------------------------------------------


def test_only_eight_bits_of_our_own_models_and_only_with_torchao(tmp_path, tiny_folder):
    check_bits(None, tiny_folder)
    with pytest.raises(EngineError, match="quantize=4"):
        load_engine(tiny_folder, quantize=4)  # type: ignore[arg-type]
    with pytest.raises(EngineUnavailable, match="pip install torchao"):
        load_engine(tiny_folder, quantize=8)
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    (tmp_path / "processor_config.json").write_text("{}")
    with pytest.raises(EngineError, match="another kind"):
        check_bits(8, tmp_path)


ASK = """
import json, sys
from earthmind_lab.engine import load_engine
from earthmind_lab.exchange import Options, Prompt
plain, fewer = load_engine(sys.argv[1]), load_engine(sys.argv[1], quantize=8)
assert fewer is not plain and load_engine(sys.argv[1], quantize=8) is fewer
reply = fewer.generate(Prompt(text="x"), Options(max_new_tokens=3))
print(json.dumps([fewer.capabilities.dtype, plain.capabilities.dtype, reply.usage.tokens_new]))
"""


@pytest.mark.parametrize("layout", ["ours", "published"])
def test_eight_bits_answer_and_are_another_engine(layout, tmp_path, tiny_folder):
    where = tiny_folder
    if layout == "published":
        where = tmp_path
        (where / "model.safetensors").symlink_to(GOLDEN / "tiny_a.model.safetensors")
        (where / "tokenizer.json").symlink_to(GOLDEN / "tiny_a.tokenizer.json")
        spec = json.loads((GOLDEN / "tiny_a.json").read_text())
        (where / "config.json").write_text(json.dumps({**spec["config"], "sam2": spec["sam2"]}))
    install("torchao", TORCHAO)
    paths = [str(folder_of("torchao", TORCHAO) or ""), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(where)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, paths), str(Path.cwd())])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == ["float32, language int8", "float32", 3]
