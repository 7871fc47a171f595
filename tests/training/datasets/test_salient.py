import numpy as np
import pytest

from training.datasets.salient import SURFACES, THINGS, SalientScenes


def test_scenes_are_frames_with_exact_masks_that_seed_and_number_decide():
    scenes = SalientScenes(4, seed=2, size=(60, 80))
    assert len(scenes) == 4
    for number in range(4):
        frame, mask = scenes[number]
        assert frame.shape == (60, 80, 3) and frame.dtype == np.uint8
        assert mask.shape == (60, 80) and mask.dtype == bool
        assert 0.01 <= mask.mean() <= 0.6
        again, same = SalientScenes(9, seed=2, size=(60, 80))[number]
        assert np.array_equal(frame, again) and np.array_equal(mask, same)
        assert not np.array_equal(frame, SalientScenes(4, seed=3, size=(60, 80))[number][0])


def test_there_are_only_so_many():
    scenes = SalientScenes(2, seed=0, size=(40, 60))
    assert len(list(scenes)) == 2
    with pytest.raises(IndexError):
        scenes[2]


def test_things_stand_before_more_than_streets():
    assert len(THINGS) > 20 and len(SURFACES) > 8
