import numpy as np

from training.features.saliency.tiles import CROPPINGS, cropped


def test_tiles_of_an_odd_frame():
    view = cropped(5, 7, 2, 3)
    assert view.top_left.tolist() == [[0, 0], [0, 3], [0, 5], [3, 0], [3, 3], [3, 5]]
    assert view.size.tolist() == [[3, 3], [3, 2], [3, 2], [2, 3], [2, 2], [2, 2]]
    assert view.tile[2].tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert view.tile[3].tolist() == [3, 3, 3, 4, 4, 5, 5]
    for number, place in enumerate(view.slices()):
        assert (view.tile[place] == number).all()
    assert sum((view.tile == number).sum() for number in range(6)) == 35


def test_the_strip_is_the_border_of_each_tile():
    assert np.argwhere(cropped(5, 5, 1, 1).strip == -1).tolist() == [
        [row, column] for row in (1, 2, 3) for column in (1, 2, 3)
    ]
    assert np.argwhere(cropped(6, 6, 2, 2).strip == -1).tolist() == [[1, 1], [1, 4], [4, 1], [4, 4]]
    wide = cropped(300, 400, 1, 1).strip
    assert (wide[:15] == 0).all() and (wide[:, :15] == 0).all() and (wide[15:285, 15:385] == -1).all()


def test_no_seam_of_one_cropping_is_a_seam_of_the_other():
    first, second = (cropped(360, 480, *cropping) for cropping in CROPPINGS[1:])
    assert not set(first.top_left[:, 0]) & set(second.top_left[:, 0]) - {0}
    assert not set(first.top_left[:, 1]) & set(second.top_left[:, 1]) - {0}
