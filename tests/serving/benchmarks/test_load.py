"""What the generator saw, counted by hand; and when an open loop's frames are due."""

from collections import Counter

import numpy as np
import pytest

from serving.benchmarks.load import (
    LOST,
    MASK,
    STRAY,
    Answer,
    Run,
    UnaryLoad,
    all_arrival_times,
    arrival_times,
    quantile,
)
from serving.benchmarks.swap import lost_frames


def run(*answers: Answer, sent: int) -> Run:
    return Run(sent, answers, 0.0, 2.0, 0.0)


def answer(sequence: int, outcome: str = MASK, *, client: int = 0, ended: float = 1.0, detail: str = "") -> Answer:
    return Answer(client, sequence, 0.5, ended, outcome, detail)


def test_a_run_counts_and_times_its_outcomes() -> None:
    seen = run(answer(0, ended=0.6), answer(1, ended=0.8), answer(2, "RESOURCE_EXHAUSTED"), sent=3)
    assert (seen.masks, seen.rate, seen.unaccounted) == (2, 1.0, 0)
    assert seen.outcomes == Counter({MASK: 2, "RESOURCE_EXHAUSTED": 1})
    np.testing.assert_allclose(seen.latencies(), [0.1, 0.3])


@pytest.mark.parametrize(
    ("answers", "sent", "unaccounted"),
    [
        ((answer(0), answer(1)), 3, 1),  # one has no outcome
        ((answer(0), answer(1, LOST)), 2, 1),  # the same, and the generator knew
        ((answer(0), answer(0), answer(1)), 2, 1),  # one has two
        ((answer(0), answer(7, STRAY)), 1, 1),  # one that nobody sent
        ((answer(0), answer(0, client=1)), 2, 0),
    ],
)
def test_each_frame_has_exactly_one_outcome(answers: tuple[Answer, ...], sent: int, unaccounted: int) -> None:
    assert run(*answers, sent=sent).unaccounted == unaccounted


def test_a_quantile_of_nothing_is_infinite() -> None:
    assert quantile(np.array([]), 0.5) == float("inf") and quantile(np.array([1.0, 3.0]), 0.5) == 2.0


def test_fixed_arrivals_are_evenly_spaced_over_the_clients() -> None:
    load = UnaryLoad(address="", requests=(b"",), clients=2, rate=4.0, arrivals="fixed", seconds=1.2)
    np.testing.assert_allclose(list(arrival_times(load, 0)), [0.5, 1.0])
    np.testing.assert_allclose(list(arrival_times(load, 1)), [0.75])
    np.testing.assert_allclose(all_arrival_times(load), [0.5, 0.75, 1.0])


def test_a_burst_is_due_at_once() -> None:
    load = UnaryLoad(address="", requests=(b"",), rate=6.0, arrivals="fixed", burst=3, seconds=1.1)
    np.testing.assert_allclose(list(arrival_times(load, 0)), [0.5, 0.5, 0.5, 1.0, 1.0, 1.0])


def test_poisson_arrivals_have_the_rate_and_follow_the_seed() -> None:
    load = UnaryLoad(address="", requests=(b"",), clients=4, rate=1000.0, seconds=10.0)
    times = all_arrival_times(load)
    assert abs(len(times) - 10_000) < 500 and times[-1] < 10
    np.testing.assert_array_equal(times, all_arrival_times(load))


def test_frames_that_a_stopping_server_owes() -> None:
    stopped = run(
        answer(0),
        answer(1, "UNAVAILABLE", detail="the server is draining"),
        answer(2, "UNAVAILABLE", detail="failed to connect to all addresses"),
        answer(3, "UNAVAILABLE", detail="Socket closed"),
        answer(4, "CANCELLED"),
        answer(0, client=1),
        answer(1, "STREAM UNAVAILABLE", client=1, detail="the server is draining"),
        answer(1, client=2),
        answer(0, "STREAM UNAVAILABLE", client=2, detail="the server is draining"),  # read, since a later one was
        sent=9,
    )
    assert lost_frames(stopped) == Counter(
        {"UNAVAILABLE: Socket closed": 1, "CANCELLED: ": 1, "STREAM UNAVAILABLE: the server is draining": 1}
    )
