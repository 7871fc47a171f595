"""The suites with real processes, small and fast: every frame has its outcome, and every figure its name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from serving.benchmarks.bench import Bench
from serving.benchmarks.commands import bench_serving
from serving.benchmarks.engine import BareEngine
from serving.benchmarks.generator import Generator
from serving.benchmarks.load import MASK, StreamLoad, UnaryLoad, all_arrival_times
from serving.benchmarks.process import Cores
from serving.benchmarks.report import BARS
from serving.benchmarks.swapping import Expectation, VersionFolder, with_other_masks

FIGURES = {
    "latency": {
        "unary_p50_ratio",
        "throughput_ratio",
        "stream_over_unary",
        "p99_over_p50_ratio",
        "cpu_ratio_unary",
        "cpu_ratio_stream",
        "masks_identical",
    },
    "overload": {
        "overload_goodput",
        "overload_p99_ratio",
        "rejection_cost",
        "memory_flat",
        "wasted_inference",
        "frame_age_p99",
    },
    "swap": {"swap_failed", "swap_mixed", "swap_p99_ratio", "memory_ratio", "sigterm_lost"},
    "soak": {"memory_ratio"},
    "fuzz": {"fuzz_crashes", "fuzz_unanswered", "fuzz_memory_ratio"},
}


@pytest.fixture(scope="module")
def bench(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    cores = Cores.choose()
    with Generator(cores.generator) as generator:
        yield Bench(model_path, tmp_path_factory.mktemp("bench"), generator, cores, scale=0.01)


def test_every_frame_has_one_outcome_and_the_engines_mask(bench: Bench) -> None:
    case = bench.network
    with bench.bare(case) as bare:
        expected = bare.checksums()
    loads: list[dict[str, Any]] = [
        {"frames": 40, "clients": 3},
        {"rate": 200.0, "seconds": 0.2},
        {"rate": 200.0, "seconds": 0.2, "arrivals": "fixed", "clients": 2},
    ]
    with bench.server(case.model) as server:
        for options in loads:
            common: dict[str, Any] = {"address": server.address, "check": True, **options}
            for load in (UnaryLoad(requests=case.requests, **common), StreamLoad(images=case.images, **common)):
                run = bench.send(load)
                assert run.sent == options.get("frames", len(all_arrival_times(load)) if load.rate else 0)
                assert run.masks == run.sent and run.unaccounted == 0
                assert all(answer.checksum == expected[answer.image(len(expected))] for answer in run.answers)
                assert {answer.version for answer in run.answers} == {"1"}
        frames = server.metric("onepixel_frames_total")
        assert frames == server.metric("onepixel_inferences_total") > 200
        assert server.cpu_seconds() > 0 and server.resident_bytes() > 1 << 24 and server.proportional_bytes() > 1 << 24
    assert bench.unaccounted == 0


def test_drops_expiry_and_cancelling_are_outcomes_too(bench: Bench) -> None:
    case = bench.tiny
    with bench.server(case.model, queue__max_wait=0.02) as server:
        flood = bench.send(
            UnaryLoad(
                address=server.address,
                requests=case.requests,
                clients=4,
                rate=1500.0,
                seconds=0.3,
                timeouts=(10.0, 0.001, 10.0),
                cancel_after=(None, None, 0.005),
            )
        )
        stream = bench.send(
            StreamLoad(
                address=server.address,
                images=case.images,
                rate=1500.0,
                seconds=0.3,
                overflow_policy="DROP_OLDEST",
                max_in_flight=1,
            )
        )
    assert {MASK, "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"} <= set(flood.outcomes)
    assert set(stream.outcomes) == {MASK, "DROPPED OVERFLOW"}
    assert flood.unaccounted == stream.unaccounted == bench.unaccounted == 0


def test_the_generator_stops_when_it_is_told(bench: Bench) -> None:
    case = bench.network
    with bench.server(case.model) as server:
        common: dict[str, Any] = {"address": server.address, "rate": 100.0}
        loads = (UnaryLoad(requests=case.requests, **common), StreamLoad(images=case.images, seconds=60, **common))
        under_way = bench.generator.start(*loads)
        while server.metric("onepixel_frames_total") < 20:
            pass
        bench.generator.stop()
        for run in under_way.result(timeout=20):
            assert run.masks == run.sent > 0


def test_the_bare_loop_answers_when_frames_are_due(bench: Bench) -> None:
    with bench.bare(bench.network) as bare:
        closed, due = bare.closed(0.05), bare.open(np.array([0.0, 0.1]))
    assert closed.rate > 1 and closed.cpu_per_frame > 0
    assert len(due.latencies) == 2 and due.elapsed > 0.1 and min(due.latencies) > 0


def test_the_copy_of_a_model_gives_other_masks_and_a_mix_is_seen(bench: Bench) -> None:
    case = bench.network
    other = bench.folder / "other.onnx"
    with_other_masks(case.model, other)
    mask, shifted = (
        np.frombuffer(BareEngine(model).segment(case.images[0]), np.uint8) for model in (case.model, other)
    )
    np.testing.assert_array_equal(shifted, (mask + 1) % 3)
    expectation = Expectation((case.model, other), case.images)
    folder = VersionFolder(bench.folder / "versions", (case.model, other))
    with bench.server(folder.path) as server:
        run = bench.send(UnaryLoad(address=server.address, requests=case.requests, frames=5, check=True))
    assert run.masks == 5 and expectation.mixed(run) == 0
    assert Expectation((other, case.model), case.images).mixed(run) == 5


def test_every_figure_of_the_suites_has_a_bar() -> None:
    assert set().union(*FIGURES.values()) | {"unaccounted_frames"} == set(BARS)


@pytest.mark.slow
@pytest.mark.parametrize("suite", FIGURES)
def test_a_suite(suite: str, model_path: Path, tmp_path: Path) -> None:
    options = ["--suite", suite, "--model", str(model_path), "--scale", "0.02", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(bench_serving, [*options, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert set(figures) == FIGURES[suite] | {"unaccounted_frames"}
    assert figures["unaccounted_frames"] == 0
    for name in ("swap_failed", "swap_mixed", "sigterm_lost", "fuzz_crashes", "fuzz_unanswered"):
        assert figures.get(name, 0) == 0
    assert figures.get("masks_identical", True) is True
    assert (tmp_path / "out" / "table.md").is_file()


def test_a_model_that_is_not_there_is_told() -> None:
    result = CliRunner().invoke(bench_serving, ["--model", "nowhere.onnx"])
    assert "--model nowhere.onnx: is no file" in str(result.exception)
