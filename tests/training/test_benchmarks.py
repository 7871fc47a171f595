"""The benchmark: its clock by hand, and a whole run on a few tiny scenes."""

import json
import time

import pytest
from click.testing import CliRunner

from training.benchmarks import FLOOR, STEPS, Clock, _resolve
from training.cli import main


def test_every_watched_place_is_a_function_of_the_pipeline():
    for places in STEPS.values():
        for place in places:
            assert callable(_resolve(place))


def test_a_steps_time_is_its_own_less_that_of_the_steps_inside(monkeypatch):
    ticks = iter([0.0, 1.0, 4.0, 10.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Clock()
    with clock.step("outer"), clock.step("inner"):
        pass
    assert dict(clock.seconds) == {"inner": 3.0, "outer": 7.0}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "best"])
def test_a_run(tiny_streets, preset):
    options = [text for override in tiny_streets for text in ("--set", override)]
    command = ["bench", "pseudo-labels", "streets", "--preset", preset, "--frames", "2", "--json", *options]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    seconds = report["seconds_per_frame"]
    assert {"decode", "network", "segmentation", "total"} <= set(seconds)
    assert sum(seconds[step] for step in FLOOR if step in seconds) < seconds["total"]
    assert report["ratio_to_floor"] > 1 and report["peak_memory_bytes"] > 1 << 20 and report["two_workers_speedup"] > 0
    if preset == "paper":
        assert report["ratio_with_saliency"] > 1 and seconds["saliency"] > 0 and "eq (5)" in seconds
    else:
        assert [cost["frames"] for cost in report["graph"]] == [1, 1, 2, 2] and seconds["Poisson learning"] > 0
        assert all(cost["graph_frames"] >= 1 and cost["regions"] > 0 for cost in report["graph"])
