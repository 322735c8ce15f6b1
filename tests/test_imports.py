"""`import earthmind_lab` stays light, and what it promises is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import earthmind_lab

HEAVY = (
    "anywidget",
    "dask",
    "geopandas",
    "gradio",
    "ipyleaflet",
    "leafmap",
    "odc",
    "pandas",
    "peft",
    "PIL",
    "pyproj",
    "pystac",
    "pystac_client",
    "rasterio",
    "ray",
    "scipy",
    "shapely",
    "torch",
    "transformers",
    "xarray",
)


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running the code."""
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(run.stdout.split())


def test_import_is_light():
    assert loaded_by("import earthmind_lab").isdisjoint(HEAVY)


def test_the_check_sees_heavy_modules():
    assert "shapely" in loaded_by("import shapely")


def test_dir_loads_nothing_heavy():
    assert loaded_by("import earthmind_lab; dir(earthmind_lab)").isdisjoint(HEAVY)


def test_command_line_starts_without_torch():
    loaded = loaded_by("import earthmind_lab.cli; earthmind_lab.cli.build_parser()")
    assert loaded.isdisjoint({"torch", "transformers", "rasterio", "geopandas", "xarray"})


def test_one_machine_never_imports_ray():
    server = "import earthmind_lab.server, earthmind_lab.server.run, earthmind_lab.server.ray_run"
    assert loaded_by(
        f"import earthmind_lab.cli, earthmind_lab.engine.loading; {server}"
    ).isdisjoint({"ray", "grpc"})


def test_all_is_sorted_and_unique():
    assert earthmind_lab.__all__ == sorted(set(earthmind_lab.__all__))


@pytest.mark.parametrize("name", earthmind_lab.__all__)
def test_public_name_resolves_and_is_described(name):
    value = getattr(earthmind_lab, name)
    assert name in dir(earthmind_lab)
    if callable(value):
        assert (value.__doc__ or "").strip()


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = earthmind_lab.no_such_name


@pytest.mark.parametrize("library", ["ipywidgets", "anywidget", "ipyleaflet"])
def test_the_map_without_its_libraries_says_what_to_install(library):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "import earthmind_lab as em\n"
        "try:\n    em.EarthMap()\n"
        "except em.EarthMindError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "earthmind_lab[lab,model]" in run.stdout
    assert library in run.stdout
