"""Adapters over the wire: listed and chosen, never loaded."""

from __future__ import annotations

import openai
import pytest

from earthmind_lab.engine import ResidentEngine
from earthmind_lab.engine.remote import RemoteEngine
from earthmind_lab.errors import ModelNotFound
from earthmind_lab.exchange import Options
from earthmind_lab.server.replica import summed
from earthmind_lab.server.run import _load_here
from tests.engine import adapted, tiny
from tests.engine.test_local import PROMPTS, backend
from tests.server.served import TOKEN, served
from tests.server.test_chat import part, png, question

SHORT = Options(max_new_tokens=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("served")
    model = tiny.save(base / "tiny")
    return model, adapted.train(model, base / "wald")


@pytest.fixture
def engine(folders):
    model, run = folders
    made = ResidentEngine(backend(model))
    made.load_adapter(run)
    yield made
    made.close()


def test_a_remote_engine_lists_and_chooses(engine):
    prompt, chosen = PROMPTS["pair"], Options(max_new_tokens=12, adapter="wald")
    alone = {o.adapter: engine.generate(prompt, o) for o in (SHORT, chosen)}
    assert alone[None].logprobs != alone["wald"].logprobs
    with served(engine) as found:
        remote = RemoteEngine(found.url, token=TOKEN)
        try:
            assert remote.adapters == engine.adapters
            assert not hasattr(remote, "load_adapter")
            for options in (SHORT, chosen):
                reply = remote.generate(prompt, options)
                assert reply.token_ids == alone[options.adapter].token_ids
                assert reply.adapter == alone[options.adapter].adapter
            with pytest.raises(ModelNotFound, match="no adapter 'other'"):
                remote.generate(prompt, Options(adapter="other"))
            remote.default_adapter = "wald"
            assert remote.generate(prompt, SHORT).adapter == engine.adapters["wald"]
            assert engine.generate(prompt, SHORT).adapter is None, "the default of one client"
            with pytest.raises(ModelNotFound):
                remote.default_adapter = "other"
        finally:
            remote.close()


def test_a_chat_names_the_adapter_with_the_model(engine):
    messages = [question("What is it?", part(png(tiny.view(seed=1).image)))]
    with served(engine) as found:
        client = openai.OpenAI(base_url=f"{found.url}/v1", api_key=TOKEN, max_retries=0)
        assert [each.id for each in client.models.list()] == ["tiny", "tiny:wald"]
        about = client.models.retrieve("tiny:wald").earthmind["adapter"]
        assert about["hash"] == engine.adapters["wald"].hash
        said = {
            name: client.chat.completions.create(model=name, messages=messages, max_tokens=12)
            for name in ("tiny", "tiny:wald")
        }
        assert said["tiny"].model == "tiny"
        assert said["tiny:wald"].model == "tiny:wald"
        told = {name: each.choices[0].message for name, each in said.items()}
        assert told["tiny"].earthmind["adapter"] is None
        assert told["tiny:wald"].earthmind["adapter"]["name"] == "wald"
        assert told["tiny"].content != told["tiny:wald"].content
        for name in ("tiny:other", "tiny:", "other:wald", "wald", engine.adapters["wald"].hash):
            with pytest.raises(openai.NotFoundError, match="There is no model"):
                client.chat.completions.create(model=name, messages=messages)


def test_a_server_loads_the_adapters_that_it_was_started_with(folders, tmp_path):
    model, run = folders
    made = _load_here(str(model), [run])
    try:
        assert list(made.adapters) == ["wald"]
    finally:
        made.close()
    with pytest.raises(ModelNotFound, match="no adapter in"):
        _load_here(str(model), [tmp_path])
    fresh = _load_here(str(model), [])
    assert not fresh.closed, "the one that failed was closed, and is not given out again"
    fresh.close()


def test_replicas_tell_what_any_of_them_has(engine):
    stats = engine.stats()
    assert summed([stats, stats]).adapters == stats.adapters
