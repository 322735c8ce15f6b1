"""What a training leaves, in a running engine: the answers of the merged model, no restart."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import earthmind_lab as em
from earthmind_lab.engine.loading import load_engine
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.finetune.run import finetune
from tests.finetune import toys


@pytest.mark.parametrize("name", ["lora", "dora", "full", "image", "fusion"])
def test_a_run_is_loaded_as_it_lies_there(toy, tmp_path, name):
    recipe = toys.recipe(toy, name, "optimiser.rate=5e-2")
    examples = toys.single() if name == "image" else toys.mixed()
    run = finetune(recipe, out=tmp_path / "areas", train=examples)
    engine, merged = load_engine(toy), load_engine(run.merge(tmp_path / "merged"))
    try:
        assert engine.load_adapter(run.folder) == "areas"
        assert engine.adapters["areas"].hash == run.hash
        changed = []
        for views in ((toys.view(seed=1),), toys.pair(2)):
            prompt = Prompt(text="Where is it?", views=views)
            found = engine.generate(prompt, Options(max_new_tokens=12, adapter="areas"))
            wanted = merged.generate(prompt, Options(max_new_tokens=12))
            assert found.token_ids == wanted.token_ids
            assert np.allclose(found.logprobs, wanted.logprobs, rtol=0, atol=2e-3)
            assert len(found.objects) == len(wanted.objects)
            assert (found.sensor_weights is None) == (wanted.sensor_weights is None)
            base = engine.generate(prompt, Options(max_new_tokens=12))
            changed.append(base.token_ids != found.token_ids or base.logprobs != found.logprobs)
        assert all(changed)
    finally:
        engine.close()
        merged.close()


def test_the_example_of_the_page_runs(toy, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs/finetune.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    (block,) = (each for each in blocks if "load_adapter" in each)
    run = finetune(
        toys.recipe(toy, "lora", "optimiser.rate=5e-2"),
        out=tmp_path / "runs/areas",
        train=toys.mixed(4),
    )
    engine = load_engine(toy)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(em, "load_engine", lambda _: engine)
    try:
        Image.fromarray(toys.view().image).save("picture.png")
        space = {"em": em}
        exec(compile(block, "finetune.md", "exec"), space)
        assert f"{{'name': 'areas', 'hash': '{run.hash}'}}" in capsys.readouterr().out
        before, after = space["before"].reply, space["answer"].reply
        assert before.adapter is None
        assert before.logprobs != after.logprobs
        assert engine.adapters == {}
    finally:
        engine.close()
