"""earthmind-nano's training: its stages at toy size, each killed once; words, windows, folds."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EngineError
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.finetune import checkpoints
from earthmind_lab.finetune.following import read_log
from earthmind_lab.finetune.words import sentences

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
PATIENCE = 240
"""Seconds until a stage of toy size is given up, on a machine that is busy with other things."""


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by their bare names."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


# --- all stages --------------------------------------------------------------------------------


def start(work: Path, home: Path, log: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "NANO_SMOKE": "1", "PYTHONPATH": str(ROOT), "EARTHMIND_HOME": str(home),
           "OMP_NUM_THREADS": "1"}  # fmt: skip
    with log.open("a") as said:
        return subprocess.Popen(
            [sys.executable, str(SCRIPTS / "train_nano.py"), str(work)],
            env=env, stdout=said, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def killed(folders: list[Path], process: subprocess.Popen[str], log: Path) -> None:
    """Wait until each of them holds a checkpoint, then end the process at once."""
    began = time.monotonic()
    while not all(checkpoints.all_of(folder) for folder in folders):
        assert process.poll() is None, log.read_text()[-3000:]
        if time.monotonic() - began > PATIENCE:
            process.kill()  # or it works on beside the tests that follow
            process.wait()
            pytest.fail(f"it was not there after {PATIENCE} s")
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)


@pytest.mark.timeout(600)
def test_every_stage_ends_and_a_killed_one_goes_on(tmp_path, capsys):
    work, logs = tmp_path / "nano", [tmp_path / f"log{n}.txt" for n in range(4)]

    def run(number: int) -> subprocess.Popen[str]:
        return start(work, tmp_path / "home", logs[number])

    killed([work / "vision", work / "masks"], run(0), logs[0])
    before = {stage: (work / stage / "done.json").exists() for stage in ("vision", "masks")}
    killed([work / "joint"], run(1), logs[1])
    killed([work / "real" / "checkpoints"], run(2), logs[2])
    losses = read_log(work / "real" / "losses.jsonl")
    assert run(3).wait(PATIENCE) == 0, logs[3].read_text()[-3000:]

    first, second, third, last = (log.read_text() for log in logs)
    assert "[1/6] prepare" in first and "[1/6]" not in second
    for stage, done in before.items():
        assert done or re.search(rf"{stage}: goes on from step [1-3] of 3", second), stage
    assert re.search(r"joint: goes on from step [1-4] of 4", third)
    assert "[2/6]" not in third and "[3/6]" not in third
    assert "[4/6]" not in last and "[5/6] real" in last
    # What was learned before the break isn't learned again.
    rows = read_log(work / "real" / "losses.jsonl")
    assert rows[0] == losses[0] and [row["step"] for row in rows] == [1, 2, 3]

    for stage in ("prepare", "vision", "masks", "joint", "real", "export"):
        assert (work / stage / "done.json").exists(), stage
    scores = json.loads((work / "scores.json").read_text())
    assert any(name.startswith("simulated both") for name in scores)
    weights = (work / "model" / "model.safetensors").stat().st_size
    assert weights <= 12_000_000
    engine = load_engine(work / "model", device="cpu")
    try:
        assert {"flooded vegetation", "clouds", "rangeland"} <= set(engine.capabilities.classes)
        reply = engine.generate(Prompt(text="Is there water here?"), Options(max_new_tokens=4))
        assert reply.usage.tokens_new > 0
    finally:
        engine.close()
    # Once more there is nothing to do.
    import train_nano
    from nano_plan import TOY

    train_nano.everything(work, TOY)
    assert "[" not in capsys.readouterr().out


# --- words -------------------------------------------------------------------------------------


def test_every_word_is_one_token_or_a_few():
    from nano_model import VOCABULARY, tokenizer

    words = tokenizer()
    assert len(words) <= VOCABULARY
    known = {word for text in sentences() for word in re.findall(r"[a-zA-Z'\-]+", text)}
    assert {"rangeland", "mangroves", "second", "harvested", "fewer", "six"} <= known
    more = []
    for word in sorted(known):
        # A word opens a sentence or follows another.
        ways = [words.encode(way, add_special_tokens=False) for way in (word, " " + word)]
        assert words.decode(ways[1]) == " " + word
        more += [word] if min(map(len, ways)) > 1 else []
    assert len(more) <= 5, more
    assert len(words.encode(" Answer yes or no.", add_special_tokens=False)) == 5
    short = [" water", " trees", " clouds", " rangeland", " flooded", " vegetation", "Yes", "No"]
    for word in short:
        assert len(words.encode(word, add_special_tokens=False)) == 1, word


def test_a_small_model_has_room_for_its_words():
    from train_nano import build

    model, _ = build()
    assert 2 * sum(p.numel() for p in model.parameters()) < 12_000_000


# --- windows and questions ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    from earthmind_lab.data.simulate import simulate_scene

    return simulate_scene(12, cloudy=True, biome="coast")


def test_a_window_knows_clouds_apart_from_the_ground(scene):
    from nano_data import window_of
    from nano_towers import fractions

    from earthmind_lab.evaluate.truth import CLOUDS, WATER

    window = window_of(scene)
    assert not (window.yes & window.no).any()
    ground = np.delete(window.yes, CLOUDS, axis=0).sum(0)
    assert (ground == 1).all()
    optical, known = fractions(window, 22, optical=True)
    whole, whole_known = fractions(window, 22, optical=False)
    # What a cloud hides is unknown to an optical view, and SAR knows nothing of clouds.
    assert known[WATER].sum() < whole_known[WATER].sum()
    assert whole_known[CLOUDS].sum() == 0 < known[CLOUDS].sum()
    assert optical.shape == whole.shape == (9, 22, 22)


def test_questions_of_a_window_have_masks_for_their_marks(scene):
    from nano_data import window_of
    from nano_text import lines

    window = window_of(scene)
    kinds: dict[str, int] = {}
    for mode in ("optical", "sar", "both", "picture"):
        for seed in range(12):
            for line in lines(window, mode, np.random.default_rng(seed), 10):
                assert line.answer.count("[SEG]") == len(line.segments), line
                for index in line.segments:
                    assert window.yes[index].any(), line
                if line.region is not None:
                    assert line.region.shape == window.cloud.shape
                    assert line.region.any()
                kinds[mode] = kinds.get(mode, 0) + ("can't be drawn" in line.answer)
    # Masks of SAR and of a pair lie on SAR.
    assert kinds["both"] > 0 == kinds["optical"]


def test_under_closed_clouds_only_sar_sees(scene):
    from nano_data import window_of
    from nano_text import lines

    from earthmind_lab.evaluate.truth import CLOUDS
    from earthmind_lab.finetune.asks_beyond import HIDDEN

    window = replace(window_of(scene), cloud=np.ones(scene.cloud.shape, bool))
    window.yes[CLOUDS], window.no[CLOUDS] = True, False

    def replies(mode: str) -> list[str]:
        return [
            line.answer
            for seed in range(20)
            for line in lines(window, mode, np.random.default_rng(seed), 10)
        ]

    blind, seeing = replies("optical"), replies("both")
    assert HIDDEN in blind
    assert not any(reply.startswith("Mostly") for reply in blind)
    assert HIDDEN not in seeing
    assert any(reply.startswith("Mostly") for reply in seeing)


# --- windows whose pictures say what they show ---------------------------------------------------

DRAWN, HELD = 10, 2
"""Scenes that are drawn from, and that are kept out."""


@pytest.fixture
def spelled(tmp_path, monkeypatch):
    """Windows of scenes whose pictures hold class, scene and cloud in red, green and blue."""
    import nano_data

    nano_data.prepare(tmp_path / "simulated", 1, 1, workers=1)
    monkeypatch.setattr(nano_data, "_jitter", lambda window, rng: None)
    monkeypatch.setattr(nano_data.Windows, "_cover", lambda self, window, rng: None)
    data = nano_data.Windows(tmp_path / "simulated", (), share_real=0.0, held=HELD)
    data.scenes = data.scenes[:1] * (DRAWN + HELD)
    rng = np.random.default_rng(5)
    codes = nano_data.CODES[nano_data.CODES >= 0].astype(np.uint8)
    for number in range(DRAWN + HELD):
        classes = np.kron(rng.choice(codes, (22, 22)), np.ones((16, 16), np.uint8))
        cloud = np.kron(rng.random((11, 11)) < 0.04, np.ones((32, 32), bool))
        picture = np.stack([20 * classes, np.full_like(classes, number), 255 * cloud], axis=-1)
        data._read[number] = nano_data.Kept(
            views=np.stack([picture.astype(np.uint8)] * 3), classes=classes,
            opacity=cloud.astype(np.float16), counts={},
        )  # fmt: skip
    data.dates *= 1 + HELD
    return data


def spelt(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Code of the class, scene and cloud of each pixel."""
    return picture[..., 0] // 20, picture[..., 1], picture[..., 2] > 0


def test_a_mosaic_is_of_several_scenes_and_truth_stays_on_its_pixels(spelled):
    from nano_data import CODES

    from earthmind_lab.evaluate.truth import CLOUDS

    seen, turns = set(), set()
    for number in range(12):
        window = spelled.mosaic(np.random.default_rng(number), clouds=0.0)
        assert (window.views == window.views[0]).all()
        codes, scene, cloud = spelt(window.views[0])
        assert (window.cloud == cloud).all()
        for index, code in enumerate(CODES):
            there = cloud if index == CLOUDS else codes == code
            assert (window.yes[index] == there).all() and (window.no[index] == ~there).all()
        # Three rows of three pieces, each of one scene.
        edges = [
            [0, *(np.flatnonzero((lines[1:] != lines[:-1]).any(1)) + 1).tolist(), 352]
            for lines in (scene, scene.T)
        ]
        assert all({*np.diff(each)} <= {96, 128, 224, 256, 352} for each in edges)
        assert len(set(scene.flat)) >= 4
        seen |= set(scene.flat)
        turns.add(scene.tobytes())
    assert seen == set(range(DRAWN))  # none that is kept out
    assert len(turns) == 12


def test_examples_of_windows_are_their_number_and_nothing_else(spelled):
    from nano_recipe import Questions

    from earthmind_lab.finetune.batches import digest

    source, again = (Questions(spelled, 6, 4) for _ in range(2))
    state = torch.get_rng_state()
    forth = [source[i] for i in range(24)]
    back = [again[i] for i in reversed(range(24))][::-1]
    assert torch.equal(torch.get_rng_state(), state)
    assert [e.info for e in forth] == [source.info(i) for i in range(24)]
    for one, other in zip(forth, back, strict=True):
        assert one.prompt.text == other.prompt.text and one.reply == other.reply
        assert len(one.prompt.history) == len(other.prompt.history)
        assert [v.hash for v in one.prompt.views] == [v.hash for v in other.prompt.views]
        for name in ("masks", "known"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert len({e.prompt.views[0].hash for e in forth}) == 6
    with pytest.raises(IndexError):
        source[24]
    # Other scenes, another training.
    spelled.share_real = 0.6
    assert digest(Questions(spelled, 6, 4)) != digest(source)


def test_masks_of_windows_lie_where_the_picture_says_and_clouds_hide_them(spelled):
    from nano_recipe import Questions

    source, kinds = Questions(spelled, 60, 6), set()
    for example in (source[i] for i in range(len(source))):
        assert example.reply.count("[SEG]") == (0 if example.masks is None else len(example.masks))
        if example.masks is None:
            continue
        sensors = [view.modality for view in example.prompt.views]
        codes, _, cloud = spelt(example.prompt.views[0].image)
        optical = "sar" not in sensors
        for mask, known in zip(example.masks, example.known, strict=True):
            clouds = optical and (mask == cloud).all()
            (code,) = {0} if clouds else set(codes[mask])
            hidden = cloud & optical & (not clouds)
            assert (known == ~hidden).all()
            assert clouds or (mask == ((codes == code) & ~hidden)).all()
            kinds.add((*sensors, "clouds" if clouds else ""))
    pair = ("sar", "optical", "optical")
    assert {(*pair, ""), ("sar", ""), ("optical", "optical", ""), ("optical", ""),
            ("optical", "optical", "clouds")} <= kinds  # fmt: skip


def test_questions_about_a_window_share_a_row_of_the_recipe(spelled):
    from nano_recipe import RECIPE, Questions
    from train_nano import build

    from earthmind_lab.finetune.batches import Collator
    from earthmind_lab.finetune.packing import Packed
    from earthmind_lab.finetune.recipe import Recipe

    recipe = Recipe.load(RECIPE)
    rows = Packed(Questions(spelled, 4, recipe.packing), recipe.packing, seed=recipe.seed)
    drawn = [rows[i] for i in range(len(rows))]
    assert [len(row) for row in drawn] == [recipe.packing] * 4
    # A window is drawn once for its row.
    assert all(len({id(e.prompt.views[0]) for e in row}) == 1 for row in drawn)
    _, processor = build()
    batch = Collator(processor, recipe)(drawn)
    assert len(batch["input_ids"]) == 4
    assert len(batch["pixel_values"]) == sum(len(row[0].prompt.views) for row in drawn)


def test_names_follow_the_pictures_and_no_question_sees_them(spelled):
    from nano_language import question_batch, read
    from nano_model import Encoder
    from train_nano import build

    model, processor = build()
    encoder, mode = Encoder(processor), "both"
    window = spelled.draw(np.random.default_rng(1), (0, 1, 2), clouds=0.0)
    batch = question_batch(encoder, [window], mode, np.random.default_rng(2), 3)
    ends = [place for _, place, _ in batch.named[:9]]
    assert [processor.tokenizer.decode([each]) for each in batch.ids[0, ends]] == [
        " water", " trees", " crops", " areas", " ground", " snow", " vegetation", " clouds",
        " rangeland",
    ]  # fmt: skip
    assert batch.weights[0, : ends[-1] + 1].sum() == 0 < batch.weights.sum()
    tokens = torch.randn(1, 3 * model.config.tokens_per_tile, 256)
    with torch.no_grad():
        _, states = read(model.eval(), tokens, batch, mode)
        batch.ids[0, batch.prefix : ends[-1] + 1] = 7  # other names
        _, others = read(model, tokens, batch, mode)
    asked = ends[-1] + 1
    assert torch.equal(states[-1][0, asked:], others[-1][0, asked:])
    assert not torch.equal(states[-1][0, ends], others[-1][0, ends])


def test_a_question_names_what_it_asks_about_by_its_longest_word():
    from nano_model import Encoder
    from nano_text import Line
    from train_nano import build

    encoder, rng = Encoder(build()[1]), np.random.default_rng(0)

    def named(question: str, answer: str = "No.") -> list[tuple[str, int]]:
        line = encoder.encode(Line(question=question, answer=answer), "sar", (), rng)
        decode = encoder.processor.tokenizer.decode
        return [(decode(line.ids[: place + 1]).split()[-1], index) for place, index in line.named]

    assert named("Is there more snow and ice than forest?") == [("ice", 5), ("forest", 1)]
    # An answer says what there is: a word of it is no question to the pictures.
    assert named("Are there flooded areas here?", "Yes, there is water.") == [("areas", 0)]
    assert named("Describe the scene.", "Mostly water, some trees.") == []


def test_the_word_that_decides_an_answer_weighs_most():
    from nano_model import FIRST, Encoder
    from nano_text import Line
    from train_nano import build

    encoder, rng = Encoder(build()[1]), np.random.default_rng(0)
    line = Line(question="Is there water here?", answer="Yes, there is water here.")
    asked = encoder.encode(line, "sar", (), rng)
    weights = [w for w in asked.weights if w]
    assert weights[0] == FIRST > 1 == max(weights[1:]) > min(weights)
    line = Line(question="Describe the scene.", answer="Mostly water, some trees.")
    assert max(encoder.encode(line, "sar", (), rng).weights) == 1


def test_what_is_named_is_found_where_the_truth_decides(spelled):
    from nano_language import Finding
    from nano_model import Encoder, pack
    from train_nano import build

    from earthmind_lab.evaluate.truth import CLOUDS, WATER

    torch.manual_seed(0)
    window = spelled.draw(np.random.default_rng(1), (0, 1, 2), clouds=0.0)
    window.yes[WATER], window.no[WATER] = False, True
    window.no[2], window.yes[2] = False, False  # nobody knows of crops
    batch = pack([1, 2], [Encoder(build()[1]).names], seg=6)
    ends = torch.tensor([place for _, place, _ in batch.named])
    finding = Finding(9, 4)
    middle = torch.zeros(1, batch.ids.shape[1], 9)
    middle[0, ends] = torch.eye(9)  # each name has a state of its own
    states = [torch.full_like(middle, torch.nan)] * 2 + [middle] + [middle * torch.nan] * 2
    training = torch.optim.Adam(finding.parameters(), lr=0.1)
    for _ in range(100):
        training.zero_grad()
        finding.loss(states, batch, [window], "sar").backward()
        training.step()
    weight = finding.told[1].weight.grad
    assert (weight[:, [2, CLOUDS]] == 0).all()  # SAR can't tell of clouds
    with torch.no_grad():
        told = finding.told(middle[:, ends])[0]
    there = [n for n in range(9) if window.yes[n].mean() >= 0.03 and n != CLOUDS]
    assert len(there) > 3 and (told[there, 0] > 1).all() and told[WATER, 0] < -1
    share = torch.tensor(window.yes.mean((1, 2)))
    assert (told[there, 1].sigmoid() ** 2 - share[there]).abs().max() < 0.03


def test_each_group_of_a_stage_has_a_limit_of_its_own(tmp_path):
    from nano_loop import Loop
    from torch import nn

    loud, calm = nn.Linear(1, 1), nn.Linear(1, 1)
    groups = [{"params": [*loud.parameters()]}, {"params": [*calm.parameters()]}]
    loop = Loop(tmp_path / "a", 1, {"loud": loud, "calm": calm}, groups, save=0.0)
    for _ in loop:
        loop.step((1000 * loud(torch.ones(1)) + 0.1 * calm(torch.ones(1))).sum())
    assert torch.isclose(loud.weight.grad.norm() ** 2 + loud.bias.grad**2, torch.tensor(1.0))
    assert torch.isclose(calm.weight.grad, torch.tensor(0.1)).all()


# --- leaving a place out -------------------------------------------------------------------------


def test_places_that_are_left_out_are_those_that_scores_know():
    from nano_real import PLACES, cases, place_of

    from earthmind_lab.evaluate.scenes import CASES
    from earthmind_lab.evaluate.walk import walk

    # Grouped there by ground; here by name.
    known = {site.name: site.place for site in walk()}
    assert {case.name: place_of(case) for case in CASES} == {c.name: known[c.name] for c in CASES}
    assert set(PLACES) == set(known.values())
    for place in PLACES:
        left = {case.name for case in cases("train", without=place)}
        assert left == {name for name in (c.name for c in CASES) if known[name] != place}, place
    assert {case.split for case in cases("train")} == {"train"}
    with pytest.raises(SystemExit, match="no place atlantis"):
        cases("train", without="atlantis")


def test_a_fold_draws_no_window_of_its_place(spelled, tmp_path, monkeypatch):
    import nano_real
    import train_nano
    from nano_plan import FULL

    def load(case):
        loaded.append(case.name)
        nothing = np.zeros((1, 1), bool)
        return SimpleNamespace(
            chip=None, cloud=nothing, truth=SimpleNamespace(yes=nothing, no=nothing)
        )

    loaded, runs = [], []
    nano_real.real_scenes.cache_clear()
    monkeypatch.setattr(nano_real, "load_case", load)
    monkeypatch.setattr(nano_real, "render", lambda chip: ())
    monkeypatch.setattr(train_nano, "spoken", lambda work: work / "base")
    monkeypatch.setattr(train_nano, "tune", lambda *given: runs.append(given))
    train_nano.real(tmp_path, replace(FULL, held=0), "lazio")
    ((base, folder, data, changes),) = runs
    assert (base, folder, changes) == (tmp_path / "base", tmp_path / "folds" / "lazio", ())
    drawn = {scene.name for scene in data.real}
    assert drawn == set(loaded) == {case.name for case in nano_real.cases("train", "lazio")}
    assert not any("lazio" in name for name in drawn) and {"jiangsu_cloudy", "chile"} <= drawn
    assert json.loads((folder / "done.json").read_text())["scenes"] == sorted(
        drawn, key=loaded.index
    )
    nano_real.real_scenes.cache_clear()


# --- checkpoints -------------------------------------------------------------------------------


class Killed(Exception):
    """In the middle of a step."""


def _die(now: bool) -> None:
    if now:
        raise Killed


def trained(folder: Path, kills: tuple[int, ...] = (), save: float = 0.0) -> torch.Tensor:
    """Seven steps of a stage that is killed in some of them and started again."""
    from nano_loop import Loop, rng_of

    left = list(kills)
    while True:
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        loop = Loop(folder, 7, {"net": net}, [{"params": list(net.parameters()), "lr": 0.1}],
                    save=save, warmup=2)  # fmt: skip
        try:
            for step in loop:
                rng = rng_of(5, step)
                values = torch.from_numpy(rng.normal(size=(16, 4)).astype(np.float32))
                loss = net(values).square().mean()
                _die(left[:1] == [step])
                loop.step(loss)
                loop.history["steps"] = step
        except Killed:
            left.pop(0)
            continue
        finally:
            loop.close()
        return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_a_stage_that_is_killed_ends_as_one_that_is_not(tmp_path):
    whole = trained(tmp_path / "whole")
    rng = random.Random(2)
    for attempt in range(3):
        kills = tuple(sorted(rng.sample(range(7), 3)))
        assert torch.equal(trained(tmp_path / f"killed{attempt}", kills), whole), kills
    # Without a checkpoint yet it begins anew, and ends alike too.
    assert torch.equal(trained(tmp_path / "late", (3, 5), save=1e9), whole)
    assert len(checkpoints.all_of(tmp_path / "whole")) == 2


def test_a_stage_ends_with_the_process_that_started_it(tmp_path, monkeypatch):
    from nano_loop import PARENT

    monkeypatch.setenv(PARENT, str(os.getppid()))
    trained(tmp_path / "watched")
    monkeypatch.setenv(PARENT, str(os.getpid()))  # nobody's parent
    with pytest.raises(SystemExit, match="is gone"):
        trained(tmp_path / "left")


def test_a_stage_refuses_what_is_not_its_own(tmp_path):
    from nano_loop import Loop, alone

    trained(tmp_path / "stage")

    def again(width: int, steps: int) -> None:
        net = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.3), nn.Linear(width, 1))
        loop = Loop(tmp_path / "stage", steps, {"net": net}, [{"params": net.parameters()}], save=1)
        try:
            next(iter(loop))
        finally:
            loop.close()

    with pytest.raises(EngineError, match="another length"):
        again(8, 9)
    with pytest.raises(EngineError, match="another architecture"):
        again(9, 7)
    held = alone(tmp_path / "stage")
    with pytest.raises(EngineError, match="Another process works"):
        alone(tmp_path / "stage", patience=0.0)
    os.close(held)


def test_a_loss_that_is_no_number_teaches_nothing(tmp_path):
    from nano_loop import Loop

    net = nn.Linear(2, 1)
    before = net.weight.detach().clone()
    loop = Loop(tmp_path / "s", 3, {"net": net}, [{"params": list(net.parameters())}], save=0.0)
    next(iter(loop))
    with pytest.raises(EngineError, match="not a number"):
        loop.step(net(torch.tensor([[float("nan"), 1.0]])).sum())
    loop.close()
    assert torch.equal(net.weight, before)
    assert not checkpoints.all_of(tmp_path / "s")
