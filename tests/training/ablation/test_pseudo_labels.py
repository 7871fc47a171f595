"""The tables: their rows, figures and files, on a few tiny scenes."""

import csv
import json

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from training.ablation.pseudo_labels import TABLES, Row, figure, markdown
from training.annotations.pixels import sibling_files
from training.cli import main
from training.configuration import load_settings


def row(name, miou, **changes):
    figures = {"precision": 0.5, "recall": 0.25, "miou_category": 0.4, "coverage": 1.0}
    return Row(
        table="presets",
        name=name,
        miou_class=miou,
        miou_class_mean=miou,
        miou_class_std=0.01,
        pixel_files=3,
        **figures | changes,
    )


def test_every_row_is_a_valid_configuration():
    for variants in TABLES.values():
        for _, differences in variants:
            load_settings("camvid", [difference.replace("{quarter}", "1") for difference in differences])


def test_rows_have_the_papers_names():
    assert [name for name, _ in TABLES["features"]] == [
        "Only Imaging",
        "Only Semantics",
        "Single Enc.",
        "Ours",
        "Only Semantics Single Enc.",
    ]
    assert [name for name, _ in TABLES["presets"]] == ["literal", "paper", "best", "floor", "ceiling"]


def test_markdown_by_hand():
    lines = markdown([row("paper", 0.2), row("best", 0.4321, val_miou_class=0.5, val_miou_category=0.6)]).splitlines()
    assert lines[2] == "| paper | 50.0 | 25.0 | 20.0 | 40.0 | 100.0 | 20.0 ± 1.0 (3) | - | - |"
    assert lines[3] == "| best | 50.0 | 25.0 | 43.2 | 40.0 | 100.0 | 43.2 ± 1.0 (3) | 50.0 | 60.0 |"


def test_the_figure_has_a_bar_per_row():
    short, long = figure([row("a", 0.1)]), figure([row("a", 0.1), row("b", 0.9)])
    assert short.dtype == np.uint8 and long.shape[0] > short.shape[0] and long.shape[1] == short.shape[1]


def test_shipped_files_have_siblings():
    assert sibling_files("camvid") == ["camvid-2", "camvid-3"]
    assert sibling_files("streets") == ["streets-2", "streets-3"]
    assert sibling_files("my-pixels.yaml") == []


@pytest.fixture(scope="module")
def presets(tiny_streets, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation")
    pixels = tiny_streets[0].removeprefix("pixels=")
    options = [text for override in tiny_streets for text in ("--set", override)]
    command = ["ablate", "streets", "--table", "presets", "--limit", "3", "--pixels", pixels, "--json", *options]
    command += ["--out", str(out), "--set", "tracking.uri=null"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["rows"], out


def test_presets_stand_between_floor_and_ceiling(presets):
    rows, _ = presets
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == ["literal", "paper", "best", "floor", "ceiling"]
    assert by_name["ceiling"]["miou_class"] > max(by_name[name]["miou_class"] for name in ("literal", "paper", "best"))
    assert by_name["best"]["miou_class"] > by_name["floor"]["miou_class"]
    for figures in rows:
        # The second pixel file is the first again.
        assert figures["pixel_files"] == 2 and figures["miou_class_std"] == 0
        assert figures["miou_class"] == figures["miou_class_mean"]
        assert 0 <= figures["precision"] <= 1 and 0 <= figures["recall"] <= 1 and 0 < figures["coverage"] <= 1


def test_tables_are_files_and_runs(presets):
    rows, out = presets
    with (out / "presets.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(entry["miou_class"]) for entry in written] == [row["miou_class"] for row in rows]
    assert len((out / "presets.md").read_text().splitlines()) == 2 + len(rows)
    assert Image.open(out / "presets.png").size[0] > 500
    client = mlflow.MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (experiment,) = [found.experiment_id for found in client.search_experiments() if found.name == "onepixel"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    best = next(row for row in rows if row["name"] == "best")
    assert runs["presets: best"].data.metrics["pseudo/miou_class"] == best["miou_class"]
