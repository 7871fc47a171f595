"""The table, and what a folder gets."""

import json
from pathlib import Path

import pytest

from serving.benchmarks.bench import Findings, growth
from serving.benchmarks.report import BARS, table, write_report

CURVE = [
    {"load": 0.5, "p50_ms": 5.0, "p99_ms": 9.0, "bare_p50_ms": 4.0, "bare_p99_ms": 5.0},
    {"load": 1.2, "p50_ms": 90.0, "p99_ms": 99.0},
]


def test_the_table_says_which_bars_are_met() -> None:
    lines = table({"unary_p50_ratio": 1.041, "throughput_ratio": 0.9, "masks_identical": True, "swap_failed": 3})
    assert "| 1.041 | <= 1.05 | met |" in lines
    assert "| 0.9 | >= 0.95 | MISSED |" in lines
    assert "| 1 | 1 | met |" in lines
    assert "| 3 | 0 | MISSED |" in lines
    assert BARS["fuzz_crashes"].text not in lines


def test_peers_stand_beside_ours() -> None:
    side = {"p50_ms": 5.0, "p99_ms": 9.0, "rate": 200.0, "saturated_p99_ms": 30.0, "cpu_ratio": 1.25}
    side["memory_bytes"] = 2**27
    lines = table({"peers": {"grpc": {"tiny": {"onepixel": side, "grpc": side}, "network": {}, "ahead": True}}})
    figures = "5 | 9 | 200 | 30 | 1.25 | 128"
    assert lines.splitlines()[2:] == [f"| tiny: onepixel | {figures} |", f"| tiny: grpc | {figures} |"]


def test_memory_grows_by_what_the_last_fifth_has_over_the_second() -> None:
    assert growth([1, 9, 10, 10, 50, 11, 12, 13, 15, 25]) == 2.0


def test_of_a_figure_that_two_suites_have_the_larger_counts() -> None:
    found = Findings({"memory_ratio": 1.01, "peers": {"a": 1}}, {"swap": 1})
    found.add(Findings({"memory_ratio": 1.2, "peers": {"b": 2}}, {"soak": 2}))
    found.add(Findings({"memory_ratio": 1.1}))
    assert found == Findings({"memory_ratio": 1.2, "peers": {"a": 1, "b": 2}}, {"swap": 1, "soak": 2})


def test_the_folder_holds_table_figures_details_and_plot(tmp_path: Path) -> None:
    findings = Findings({"unary_p50_ratio": 1.0}, {"latency": {"curve": CURVE}})
    assert write_report(findings, tmp_path / "out") == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "table.md",
        "figures.json",
        "details.json",
        "latency.png",
    }
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == {"unary_p50_ratio": 1.0}


def test_without_matplotlib_the_plot_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    notes = write_report(Findings({}, {"latency": {"curve": CURVE}}), tmp_path)
    assert notes == ["no latency.png: Matplotlib is not installed (it comes with the extra `training`)"]
    assert not (tmp_path / "latency.png").exists()
