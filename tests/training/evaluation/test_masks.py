import numpy as np
import pytest

from serving.errors import InputError
from tests.training.evaluation.frames import save
from training.evaluation.masks import MaskFolder
from training.taxonomy import CAMVID, CITYSCAPES

IDS = ["ulm_000000_000019", "neu-ulm_000000_000019", "ulm_000001_000019"]


@pytest.fixture
def submission(tmp_path):
    return MaskFolder(tmp_path, CITYSCAPES, submission=True)


@pytest.fixture
def plain(tmp_path):
    return MaskFolder(tmp_path, CAMVID, submission=False)


def touch(folder, *names):
    for name in names:
        save(np.zeros((2, 2)), folder / name)


def test_a_submission_is_any_png_anywhere_whose_name_contains_the_frame(submission, tmp_path):
    names = ["val/pred_ulm_000000_000019_x.png", "a/b/neu-ulm_000000_000019.png", "ulm_000001_000019_labelIds.png"]
    touch(tmp_path, *names, "confusion.png", "other_000000_000019.png")
    (tmp_path / "ulm_000000_000019.txt").write_text("no mask")
    assert submission.files(IDS) == {frame_id: tmp_path / name for frame_id, name in zip(IDS, names, strict=True)}


def test_none_or_two_files_for_a_frame_name_it(submission, tmp_path):
    touch(tmp_path, "ulm_000000_000019.png", "ulm_000001_000019.png")
    with pytest.raises(InputError, match=r"no prediction for frame 'neu-ulm_000000_000019'"):
        submission.files(IDS)
    touch(tmp_path, "neu-ulm_000000_000019.png", "deep/ulm_000001_000019_color.png")
    with pytest.raises(InputError, match=r"2 predictions for frame 'ulm_000001_000019', .*_color\.png and"):
        submission.files(IDS)


def test_elsewhere_a_file_has_the_frames_name(plain, tmp_path):
    touch(tmp_path, "one.png", "one_more.png")
    assert plain.files(["one"]) == {"one": tmp_path / "one.png"}
    with pytest.raises(InputError, match=r"no prediction for frame 'two'; should be two\.png"):
        plain.files(["one", "two"])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder"):
        MaskFolder(tmp_path / "absent", CAMVID, submission=False).files(["one"])


def test_label_ids_are_written_and_read_back(submission, tmp_path):
    class_ids = np.array([[*range(19), 255]], np.uint8)
    path = submission.write("ulm_000000_000019", class_ids)
    assert path == tmp_path / "ulm_000000_000019_labelIds.png"
    assert submission.files(["ulm_000000_000019"]) == {"ulm_000000_000019": path}
    assert np.array_equal(submission.read(path), class_ids)
    raw = MaskFolder(tmp_path, CITYSCAPES, submission=False)
    with pytest.raises(InputError, match="label value 19 at row 0, column 6 is unknown"):
        raw.read(path)


def test_labels_that_are_not_evaluated_are_no_class(submission, tmp_path):
    path = save([[0, 1, 4, 9, 15, 29, 7]], tmp_path / "a.png")  # unlabeled, ego vehicle, static, parking, ..., road
    assert submission.read(path).tolist() == [[255] * 6 + [0]]
    with pytest.raises(InputError, match=r"a\.png: label value 255 at row 0, column 0 is unknown; known are 0 to 33"):
        submission.read(save([[255]], tmp_path / "a.png"))


def test_class_ids_are_written_and_read_back(plain, tmp_path):
    class_ids = np.array([[*range(11), 255]], np.uint8)
    path = plain.write("one", class_ids)
    assert path == tmp_path / "one.png" and np.array_equal(plain.read(path), class_ids)
    with pytest.raises(InputError, match=r"one\.png: label value 11 at row 0, column 1 is unknown"):
        plain.read(save([[0, 11]], path))
