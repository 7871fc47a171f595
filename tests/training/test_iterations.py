"""The rounds' table: its lines, its files, and that what is known is not run again, on a few tiny scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from training import iterations
from training.cli import main
from training.configuration import load_settings
from training.iterations import LINES, IterationRow, Line, figure, markdown, run_iterations


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


def test_what_is_known_is_not_run_again(series, tiny_streets, monkeypatch, tmp_path):
    overrides = [*tiny_streets, "training.updates=2"]
    out, lines, rows = series
    monkeypatch.setattr(iterations, "LINES", lines)
    monkeypatch.setattr(iterations, "Pipeline", lambda *_, **__: pytest.fail("run again"))
    again = run_iterations("streets", overrides, tmp_path, out / "results", warn=pytest.fail)
    assert iterations.as_json(again)["rows"] == rows
    with pytest.raises(pytest.fail.Exception, match="run again"):  # another training has another file
        run_iterations("streets", [*overrides, "training.power=0.8"], tmp_path, out / "results", warn=pytest.fail)


def test_the_table_stands_by_itself():
    result = CliRunner().invoke(main, ["ablate", "streets", "--table", "iterations", "--limit", "3"])
    assert result.exit_code == 2 and "takes no other table, --limit" in result.output
