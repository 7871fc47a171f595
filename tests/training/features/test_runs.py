import numpy as np

from training.features.runs import row_runs

LABELS = np.array([[0, 0, 1, 0], [2, 2, 2, 2], [2, 0, 0, 1]], np.int32)


def test_runs_are_the_stretches_of_each_row():
    runs = row_runs(LABELS)
    assert runs.region.tolist() == [0, 1, 0, 2, 2, 0, 1]
    assert runs.row.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert runs.start.tolist() == [0, 2, 3, 0, 0, 1, 3]
    assert runs.stop.tolist() == [2, 3, 4, 4, 1, 3, 4]


def test_runs_end_at_the_given_columns_too():
    runs = row_runs(LABELS[1:2], np.array([False, False, True, False]))
    assert runs.start.tolist() == [0, 2] and runs.stop.tolist() == [2, 4]


def test_sums_over_a_runs_columns():
    assert row_runs(LABELS).sums(np.array([1, 10, 100, 1000])).tolist() == [11, 100, 1000, 1111, 1, 110, 1000]
