"""The main way in the other places where people have their notebooks: Notebook 7, and a hub."""

from __future__ import annotations

import pytest

from tests.browser.lab_server import Lab
from tests.browser.main_way import from_place_to_undo

HOSTS = [
    {"app": "notebook", "kernel": "7.3.0"},
    {"app": "notebook", "kernel": "7.4.0"},
    {"app": "lab", "kernel": "7.3.0", "prefix": "/user/ann/"},
]


@pytest.fixture(scope="module", params=HOSTS, ids=lambda host: "-".join(host.values()))
def lab(request, serve, tmp_path_factory):
    return Lab(serve, tmp_path_factory.mktemp("host"), **request.param)


def test_from_place_to_answer_to_stop_to_undo(lab, notebook):
    notebook.pace(0.15)
    from_place_to_undo(notebook)
    asked = {request.url for request in notebook.visitor.requests}
    assert asked
    assert all("/user/ann/" in url for url in asked if "/api/" in url) == ("-ann" in lab.name)
