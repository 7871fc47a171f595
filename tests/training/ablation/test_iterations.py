"""The rounds' table: its lines, its files, and that what is known is not run again, on a few tiny scenes."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner

from training.ablation import iterations
from training.ablation.iterations import LINES, IterationRow, Line, figure, known_before, markdown, run_iterations
from training.cli import main
from training.configuration import load_settings

STAGES = ("features", "bounds", "round_0/pseudo_labels", "round_0/network", "round_0/evaluation")


def row(name, number, miou, **changes):
    given = {"seed": 0, "updates": 6, "pseudo_miou_class": 0.4, "val_miou_class": miou, "val_miou_category": 0.5}
    return IterationRow(name=name, round=number, **given | changes)


def test_every_line_is_a_valid_configuration_of_its_own():
    base = load_settings("camvid")
    settings = [iterations._settings("camvid", [], base, line, 0) for line in LINES]
    assert len({one.model_dump_json() for one in settings}) == len({line.name for line in LINES}) == len(LINES)


def test_markdown_by_hand():
    rows = [row("a", 0, 0.3), row("a", 1, 0.36, twin_miou_class=0.6), row("a", 0, 0.32, seed=1)]
    assert markdown(rows).splitlines()[2:] == [
        "| a | 0 | 40.0 ± 0.0 (2) | 31.0 ± 1.4 (2) | 50.0 ± 0.0 (2) | - | - |",
        "| a | 1 | 40.0 | 36.0 | 50.0 | 60.0 | 0.60 |",
    ]


def test_the_figure():
    drawn = figure([row("a", 0, 0.3), row("a", 1, 0.36), row("one round", 0, 0.2)])
    assert drawn.dtype == np.uint8 and drawn.ndim == 3


@pytest.fixture(scope="module")
def series(tiny_streets, tmp_path_factory):
    """Two lines that share their first round, run by the command."""
    out = tmp_path_factory.mktemp("series")
    lines = (
        Line("one", ("iterations.rounds=1",), twin=True),
        Line("paper", ("iterations.loop=paper", "iterations.rounds=2")),
        Line("twice", ("iterations.rounds=1", "training.updates=4"), twin=True),
    )
    options = [text for override in [*tiny_streets, "training.updates=2"] for text in ("--set", override)]
    command = ["ablate", "streets", "--table", "iterations", "--out", str(out / "runs"), "--json", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iterations, "LINES", lines)
        result = CliRunner().invoke(main, [*command, "--results", str(out / "results")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out, lines, json.loads(result.stdout)["rows"]


def test_a_row_for_each_round_and_a_file_for_each_run(series):
    out, _, rows = series
    known = [(row["name"], row["round"], row["updates"]) for row in rows]
    assert known == [("one", 0, 2), ("paper", 0, 2), ("paper", 1, 4), ("twice", 0, 4)]
    assert sorted(path.name for path in (out / "results").iterdir()) == ["one-0.json", "paper-0.json", "twice-0.json"]
    kept = json.loads((out / "results" / "paper-0.json").read_text())
    assert kept["miou_class"] == [row["val_miou_class"] for row in rows[1:3]]
    assert str(out) not in json.dumps(kept)
    assert (out / "runs" / "iterations.md").exists() and (out / "runs" / "iterations.png").exists()


def test_a_round_is_held_against_the_twin_of_as_many_updates(series):
    _, _, rows = series
    assert rows[0]["twin_miou_class"] == rows[1]["twin_miou_class"] > 0
    assert rows[2]["twin_miou_class"] == rows[3]["twin_miou_class"] > 0


def test_the_first_round_is_shared(series):
    out, _, rows = series
    assert rows[0]["val_miou_class"] == rows[1]["val_miou_class"]
    one, paper, twice = (next((out / "runs" / "runs").glob(f"{name}-0-*")) for name in ("one", "paper", "twice"))
    weights = Path("round_0", "network", "network.safetensors")
    assert (one / weights).samefile(paper / weights) and not (one / weights).samefile(twice / weights)
    labels = Path("round_0", "pseudo_labels", "streets_train_0000.png")
    assert (one / labels).samefile(twice / labels)


def test_a_run_tells_mlflow_what_it_took_over_too(series):
    out, _, rows = series
    run = json.loads((next((out / "runs" / "runs").glob("paper-0-*")) / "mlflow.json").read_text())
    client = mlflow.MlflowClient(run["uri"])
    parent = client.get_run(run["run_id"])
    history = client.get_metric_history(run["run_id"], "val/miou_class")
    assert [(point.step, point.value) for point in history] == [(n, rows[1 + n]["val_miou_class"]) for n in (0, 1)]
    assert {"floor_miou", "ceiling_miou", "pseudo/miou_class"} <= set(parent.data.metrics)
    nested = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{run['run_id']}'")
    stages = {one.info.run_name: one for one in nested}
    rounds = {f"round_{number}/{name}" for number in (0, 1) for name in ("pseudo_labels", "network", "evaluation")}
    assert len(nested) == len(stages) and set(stages) == {"features", "bounds", "model_store"} | rounds
    first, second = (stages[f"round_{number}/evaluation"] for number in (0, 1))
    assert set(first.data.metrics) == set(second.data.metrics)
    names = [{file.path for file in client.list_artifacts(one.info.run_id, "figures")} for one in (first, second)]
    assert names[0] == names[1] and len(names[0]) == 5


def test_what_is_known_is_not_run_again(series, tiny_streets, monkeypatch, tmp_path):
    overrides = [*tiny_streets, "training.updates=2"]
    out, lines, rows = series
    monkeypatch.setattr(iterations, "LINES", lines)
    monkeypatch.setattr(iterations, "Pipeline", lambda *_, **__: pytest.fail("run again"))
    again = run_iterations("streets", overrides, tmp_path, out / "results", warn=pytest.fail)
    assert iterations.as_json(again)["rows"] == rows
    older = shutil.copytree(out / "results", tmp_path / "older") / "one-0.json"  # from before there were soft labels
    kept = json.loads(older.read_text())
    del kept["asked"]["training"]["soft_labels"]
    older.write_text(json.dumps(kept))
    again = run_iterations("streets", overrides, tmp_path, older.parent, warn=pytest.fail)
    assert iterations.as_json(again)["rows"] == rows and json.loads(older.read_text()) == kept
    with pytest.raises(pytest.fail.Exception, match="run again"):  # another training has another file
        run_iterations("streets", [*overrides, "training.power=0.8"], tmp_path, out / "results", warn=pytest.fail)


@pytest.mark.parametrize(
    ("differing", "stages"),
    [
        ("iterations.rounds=1", STAGES),
        ("training.power=0.8", STAGES[:3]),
        ("training.soft_labels=0.2", STAGES[:2]),
        ("superpixels.count=700", ()),
    ],
)
def test_a_run_takes_over_what_is_the_same_in_it(tmp_path, differing, stages):
    for stage in STAGES:
        (tmp_path / "made" / stage).mkdir(parents=True)
        (tmp_path / "made" / stage / "done.json").write_text("{}")
    made, asked = (asked_of(load_settings("streets", given)) for given in ([], [differing]))
    iterations._take_over([(made, tmp_path / "made")], asked, tmp_path / "run")
    assert {path.parent for path in (tmp_path / "run").rglob("*.json")} == {
        tmp_path / "run" / stage for stage in stages
    }


def asked_of(settings):
    return iterations._asked(settings, False, {"train": "a", "val": "b"})


def stands(kept, settings):
    asked = asked_of(settings)
    return known_before(asked, kept, iterations._changed(settings, asked)) == kept


def test_what_was_kept_stands_when_a_setting_is_added_whose_default_means_as_before():
    settings = load_settings("streets")
    kept = asked_of(settings)
    assert stands(kept, settings)
    for section, key in (("training", "soft_labels"), ("propagation", "most_object_area"), ("dataset", "unreadable")):
        older = kept | {section: {name: value for name, value in kept[section].items() if name != key}}
        assert stands(older, settings)
    assert stands({name: value for name, value in kept.items() if name != "representation"}, settings)
    older = kept | {"training": {name: value for name, value in kept["training"].items() if name != "soft_labels"}}
    for differing in ("training.soft_labels=0.2", "training.power=0.8", "superpixels.count=700"):
        assert not stands(older, load_settings("streets", [differing]))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"files": {"network.weights": "c"}},
        {"files": {}},
        {"frames": {"train": "a", "val": "c"}},
        {"twin": True},
        {"removed": 1},
    ],
    ids=str,
)
def test_nothing_else_that_differs_stands(change):
    settings = load_settings("streets")
    kept = asked_of(settings) | {"files": {"network.weights": "d"}}
    asked = asked_of(settings) | {"files": {"network.weights": "d"}}
    changed = iterations._changed(settings, asked)
    assert known_before(asked, kept, changed) == kept
    assert known_before(asked, kept | change, changed) != kept | change


def test_a_default_that_was_altered_does_not_stand():
    settings = load_settings("streets")
    kept = asked_of(settings)
    kept = kept | {"training": kept["training"] | {"weight_decay": 0.0005}}
    assert not stands(kept, settings)


RESULTS = sorted(Path("results").glob("*/*.json"))
GIVEN = {
    "camvid": [],
    "camvid-without-skip": ["network.name=deeplab_mobilenet_v2", "pseudo_labels.thin=false"],
    "camvid-without-widths": ["pseudo_labels.thin=false"],
}
"""By the folder of the results, what `onepixel ablate camvid` was given for them beside the paths."""


@pytest.mark.parametrize("path", RESULTS, ids=str)
def test_the_shipped_results_are_those_of_the_shipped_configuration(path, monkeypatch):
    kept = json.loads(path.read_text())
    (line,) = (line for line in LINES if line.name == kept["name"])
    given = [*GIVEN[path.parent.name], "dataset.root=absent", "cam.weights=absent.safetensors"]
    base = load_settings("camvid", given)
    settings = iterations._settings("camvid", given, base, line, kept["asked"]["seed"])
    monkeypatch.setattr(iterations, "file_digests", lambda _: kept["asked"]["files"])  # of weights that do not ship
    asked = iterations._asked(settings, line.twin, kept["asked"]["frames"])
    assert known_before(asked, kept["asked"], iterations._changed(settings, asked)) == kept["asked"]


def test_the_table_stands_by_itself():
    result = CliRunner().invoke(main, ["ablate", "streets", "--table", "iterations", "--limit", "3"])
    assert result.exit_code == 2 and "takes no other table, --limit" in result.output
