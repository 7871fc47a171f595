"""The walls of the house: which way imports point, and how long a file may be."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted(path for package in ("training", "serving") for path in Path(package).rglob("*.py"))
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}


def imports(path, *, everywhere):
    """Return the modules that a file imports; `everywhere` counts those inside functions and for types too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "serving"], ids=str)
def test_serving_names_neither_torch_nor_training(path):
    assert not [name for name in imports(path, everywhere=True) if name.split(".")[0] in ("torch", "training")]


def test_imports_have_no_cycle():
    graph = {name: imports(path, everywhere=False) & set(MODULES) - {name} for name, path in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_nothing_imports_a_command_line_but_the_front_doors():
    for name, path in MODULES.items():
        if name in ("training.cli", "serving.__main__"):
            continue
        assert not imports(path, everywhere=True) & {"training.cli", "serving.commands"}, path


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_is_over_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


PRIVATE = """
import {module}, mlflow.telemetry, onnxruntime
onnxruntime.InferenceSession("model_store/camvid/1/model.onnx")
assert mlflow.telemetry.get_telemetry_client() is None
"""


@pytest.mark.parametrize("module", ["serving.model", "training.features.saliency.forest"])
def test_nothing_is_reported_to_the_makers_of_the_libraries(module, tmp_path):
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    homes = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    subprocess.run([sys.executable, "-c", PRIVATE.format(module=module)], env=known | homes, check=True)
    assert list(tmp_path.iterdir()) == []  # ONNX Runtime would write down a number for this machine


def test_proto_is_an_import_root_and_no_package():
    assert not Path("proto/__init__.py").exists()
