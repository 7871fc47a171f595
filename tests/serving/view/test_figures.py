from serving.view.figures import NOT_SENT, WINDOW, Figures
from serving.wire import Timings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_came_yet() -> None:
    found = Figures(Clock()).to_json()
    assert found["rate_in"] == found["rate_out"] == found["arrived"] == found["segmented"] == found["failed"] == 0
    assert found["dropped"] == {"OVERFLOW": 0, "NOT_SENT": 0, "LOST": 0}
    assert set(found["times_ms"].values()) == {None} and found["round_trip_ms"] is None


def test_rates_and_times_are_of_the_last_seconds_and_counts_of_all() -> None:
    clock = Clock()
    figures = Figures(clock)
    for number in range(80):  # eight a second, every other one segmented
        clock.now += 0.125
        figures.arrived()
        if number % 2:
            figures.segmented(Timings(decode=0.001, queue=0.002, inference=0.003, encode=0.004), 0.015)
        else:
            figures.dropped("OVERFLOW")
    found = figures.to_json()
    assert (found["rate_in"], found["rate_out"]) == (8, 4)
    assert (found["arrived"], found["segmented"], found["dropped"]["OVERFLOW"]) == (80, 40, 40)
    assert found["times_ms"] == {"decode": 1, "queue": 2, "inference": 3, "encode": 4, "other": 5}
    assert found["round_trip_ms"] == 15
    clock.now += WINDOW
    found = figures.to_json()
    assert (found["rate_in"], found["rate_out"], found["arrived"], found["round_trip_ms"]) == (0, 0, 80, None)


def test_in_the_first_seconds_rates_are_over_those() -> None:
    clock = Clock()
    figures = Figures(clock)
    for _ in range(16):
        clock.now += 0.125
        figures.arrived()
    assert figures.to_json()["rate_in"] == 8


def test_a_median_holds_against_one_slow_frame() -> None:
    figures = Figures(Clock())
    for seconds in (0.01, 0.01, 9.0):
        figures.segmented(Timings(0.0, 0.0, seconds, 0.0), seconds)
    assert figures.to_json()["times_ms"]["inference"] == 10


def test_other_reasons_and_the_last_refusal_are_kept() -> None:
    figures = Figures(Clock())
    figures.dropped("EXPIRED")
    figures.dropped(NOT_SENT, 3)
    figures.failed("a.png: bad")
    figures.failed("b.png: worse")
    found = figures.to_json()
    assert found["dropped"] == {"OVERFLOW": 0, "NOT_SENT": 3, "LOST": 0, "EXPIRED": 1}
    assert (found["failed"], found["last_failure"]) == (2, "b.png: worse")
