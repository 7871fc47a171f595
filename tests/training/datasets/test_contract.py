"""What every data set must keep, whatever its layout: each member's test class inherits `DatasetContract`."""

import numpy as np
import pytest
from PIL import Image

from serving.errors import InputError
from training.datasets import open_dataset
from training.settings import DatasetSettings
from training.taxonomy import IGNORED


def write_frame(path, *, size=(6, 8), seed=0):
    """Write a small frame of random colours, height x width, and return its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_labels(path, values, *, palette=False):
    """Write a label file of raw values, as grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    image.save(path)


class DatasetContract:
    """Tests that hold for any data set.

    A member gives the fixture `dataset`, a small split; `reopened(dataset)`, the same split opened again; and
    `changed(dataset)`, the split with another first frame.
    """

    def test_ids_are_unique_stable_and_usable_as_file_stems(self, dataset):
        assert len(set(dataset.frame_ids)) == len(dataset) > 0
        assert list(self.reopened(dataset).frame_ids) == list(dataset.frame_ids)
        assert all(frame_id and not set(frame_id) & set("/\\ ") for frame_id in dataset.frame_ids)

    def test_frames_are_rgb_bytes(self, dataset):
        for frame_id in dataset.frame_ids:
            frame = dataset.frame(frame_id)
            assert frame.dtype == np.uint8
            assert frame.ndim == 3 and frame.shape[2] == 3

    def test_labels_are_classes_of_the_frames_size(self, dataset):
        assert dataset.has_labels
        for frame_id in dataset.frame_ids:
            labels = dataset.labels(frame_id)
            assert labels.dtype == np.uint8
            assert labels.shape == dataset.frame(frame_id).shape[:2]
            assert set(np.unique(labels)) <= {*range(len(dataset.taxonomy.classes)), IGNORED}

    def test_what_is_returned_may_be_changed(self, dataset):
        first = dataset.frame_ids[0]
        before, truth = dataset.frame(first), dataset.labels(first)
        dataset.frame(first)[:] = 0
        dataset.labels(first)[:] = 0
        assert np.array_equal(dataset.frame(first), before)
        assert np.array_equal(dataset.labels(first), truth)

    def test_digest_follows_the_content(self, dataset):
        digest = dataset.digest()
        assert len(digest) == 64
        assert self.reopened(dataset).digest() == digest
        assert self.changed(dataset).digest() != digest

    def test_the_labels_have_a_digest_of_their_own(self, dataset):
        digest = dataset.labels_digest()
        assert len(digest) == 64 and digest != dataset.digest()
        assert self.reopened(dataset).labels_digest() == digest

    @pytest.mark.parametrize("method", ["frame", "labels"])
    def test_unknown_id_is_an_input_error_that_names_it(self, dataset, method):
        with pytest.raises(InputError, match="no_such_frame"):
            getattr(dataset, method)("no_such_frame")


class FileDatasetContract(DatasetContract):
    """Tests for data sets in files: every bad file is an error that names it.

    A member gives `name`, the data set's; `create(root)`, which writes its files; and `frame_path(root)`,
    `label_path(root)` of its first frame, whose size is 6 x 8.
    """

    @pytest.fixture
    def dataset(self, tmp_path):
        self.root = tmp_path
        self.create(tmp_path)
        return self.reopened()

    def reopened(self, dataset=None):
        return open_dataset(DatasetSettings(name=self.name, root=self.root), "train")

    def changed(self, dataset):
        write_frame(self.frame_path(self.root), seed=99)
        return self.reopened()

    def test_missing_frame_names_the_file(self, dataset):
        path = self.frame_path(self.root)
        path.unlink()
        with pytest.raises(InputError, match=path.name):
            dataset.frame(dataset.frame_ids[0])

    def test_missing_label_file_names_the_file_on_opening(self, dataset):
        path = self.label_path(self.root)
        path.unlink()
        with pytest.raises(InputError, match=path.name):
            self.reopened(dataset)

    def test_half_a_frame_names_the_file(self, dataset):
        path = self.frame_path(self.root)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match=path.name):
            dataset.frame(dataset.frame_ids[0])

    def test_wrong_label_value_names_file_and_value(self, dataset):
        path = self.label_path(self.root)
        write_labels(path, np.full(dataset.frame(dataset.frame_ids[0]).shape[:2], 77))
        with pytest.raises(InputError, match=f"{path.name}.* 77 at row 0, column 0"):
            dataset.labels(dataset.frame_ids[0])

    def test_label_size_mismatch_names_file_and_sizes(self, dataset):
        path = self.label_path(self.root)
        write_labels(path, np.zeros((2, 3)))
        with pytest.raises(InputError, match=rf"{path.name}.*2 x 3.*6 x 8"):
            dataset.labels(dataset.frame_ids[0])

    def test_labels_that_are_colours_name_file_and_mode(self, dataset):
        path = self.label_path(self.root)
        write_frame(path)
        with pytest.raises(InputError, match=f"{path.name}.*mode RGB"):
            dataset.labels(dataset.frame_ids[0])

    def test_text_instead_of_labels_names_the_file(self, dataset):
        path = self.label_path(self.root)
        path.write_text("not an image")
        with pytest.raises(InputError, match=path.name):
            dataset.labels(dataset.frame_ids[0])

    def test_encoded_is_the_file(self, dataset):
        assert dataset.encoded(dataset.frame_ids[0]) == self.frame_path(self.root).read_bytes()
        assert dataset.encoded_labels(dataset.frame_ids[0]) == self.label_path(self.root).read_bytes()

    def test_the_labels_digest_follows_them_alone(self, dataset):
        frames, labels = dataset.digest(), dataset.labels_digest()
        write_labels(self.label_path(self.root), np.ones((6, 8)))
        changed = self.reopened(dataset)
        assert changed.digest() == frames and changed.labels_digest() != labels


class TestCamVid(FileDatasetContract):
    name = "camvid"

    def create(self, root):
        lines = []
        for number in range(3):
            name = f"0001TP_{number:06d}.png"
            write_frame(root / "train" / name, seed=number)
            write_labels(root / "trainannot" / name, np.arange(48).reshape(6, 8) % 12)
            lines.append(f"/SegNet/CamVid/train/{name} /SegNet/CamVid/trainannot/{name}\n")
        (root / "train.txt").write_text("".join(lines))

    def frame_path(self, root):
        return root / "train" / "0001TP_000000.png"

    def label_path(self, root):
        return root / "trainannot" / "0001TP_000000.png"

    def test_eleven_is_ignored_and_all_else_kept(self, dataset):
        values = np.arange(48).reshape(6, 8) % 12
        assert np.array_equal(dataset.labels("0001TP_000000"), np.where(values == 11, IGNORED, values))

    @pytest.mark.parametrize("line", ["only_one.png", "a.png b.png c.png", "/ /"])
    def test_malformed_line_names_list_and_number(self, dataset, line):
        with (self.root / "train.txt").open("a") as lines:
            lines.write(line + "\n")
        with pytest.raises(InputError, match=r"train\.txt, line 4.*IMAGE LABEL"):
            self.reopened()

    def test_frame_listed_twice_is_an_error(self, dataset):
        with (self.root / "train.txt").open("a") as lines:
            lines.write("x/0001TP_000001.png x/0001TP_000001.png\n")
        with pytest.raises(InputError, match=r"line 4.*0001TP_000001.*twice"):
            self.reopened()

    def test_unknown_split_says_which_there_are(self, dataset):
        with pytest.raises(InputError, match=r"night\.txt.*there are: train"):
            open_dataset(DatasetSettings(name="camvid", root=self.root), "night")


class TestCityscapes(FileDatasetContract):
    name = "cityscapes"

    def create(self, root):
        for city, number in (("aachen", 0), ("bochum", 1)):
            write_frame(root / f"leftImg8bit/train/{city}/{city}_00000{number}_000019_leftImg8bit.png", seed=number)
            values = np.arange(48).reshape(6, 8) % 34
            write_labels(root / f"gtFine/train/{city}/{city}_00000{number}_000019_gtFine_labelIds.png", values)

    def frame_path(self, root):
        return root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"

    def label_path(self, root):
        return root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"

    def test_label_ids_become_train_ids(self, dataset):
        train_ids = dataset.labels("aachen_000000_000019").ravel()[:34].tolist()
        ignored = [IGNORED]
        assert train_ids == [
            *ignored * 7, 0, 1, *ignored * 2, 2, 3, 4, *ignored * 3, 5, *ignored, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
            *ignored * 2, 16, 17, 18,
        ]  # fmt: skip

    def test_nineteen_classes_seven_categories(self, dataset):
        assert len(dataset.taxonomy.classes) == 19
        assert len(dataset.taxonomy.categories) == 7

    def test_split_without_labels(self, dataset):
        write_frame(self.root / "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png")
        test = open_dataset(DatasetSettings(name="cityscapes", root=self.root), "test")
        assert not test.has_labels
        with pytest.raises(InputError, match=r"bonn_000000_000019.*none"):
            test.labels("bonn_000000_000019")

    def test_missing_split_names_the_folder(self, dataset):
        with pytest.raises(InputError, match="leftImg8bit/val: no such folder"):
            open_dataset(DatasetSettings(name="cityscapes", root=self.root), "val")


class TestFolder(FileDatasetContract):
    name = "folder"

    def create(self, root):
        for number, suffix in enumerate((".png", ".jpg", ".webp")):
            write_frame(root / "train" / "images" / f"frame{number}{suffix}", seed=number)
            values = np.where(np.arange(48).reshape(6, 8) % 20 == 19, IGNORED, np.arange(48).reshape(6, 8) % 20)
            write_labels(root / "train" / "labels" / f"frame{number}.png", values, palette=number == 1)

    def frame_path(self, root):
        return root / "train" / "images" / "frame0.png"

    def label_path(self, root):
        return root / "train" / "labels" / "frame0.png"

    def test_palette_does_not_change_the_values(self, dataset):
        assert np.array_equal(dataset.labels("frame1"), dataset.labels("frame0"))

    def test_taxonomy_is_the_settings(self, dataset):
        settings = DatasetSettings(name="folder", root=self.root, taxonomy="camvid")
        with pytest.raises(InputError, match=r"frame0\.png: label value 11 .* known are 0 to 10, 255"):
            open_dataset(settings, "train").labels("frame0")

    def test_one_name_in_two_splits_is_an_error(self, dataset):
        write_frame(self.root / "val" / "images" / "frame1.png")
        with pytest.raises(InputError, match="frame1"):
            self.reopened()

    def test_one_stem_twice_is_an_error(self, dataset):
        write_frame(self.root / "train" / "images" / "frame0.jpg")
        with pytest.raises(InputError, match=r"frame0\.png: frame0\.jpg has the same stem"):
            self.reopened()

    def test_unknown_split_says_which_there_are(self, dataset):
        with pytest.raises(InputError, match=r"night.*there are: train"):
            open_dataset(DatasetSettings(name="folder", root=self.root), "night")

    def test_images_in_the_root_need_no_split(self, tmp_path):
        write_frame(tmp_path / "b.png")
        write_frame(tmp_path / "a.png")
        (tmp_path / "notes.txt").write_text("no image")
        plain = open_dataset(DatasetSettings(name="folder", root=tmp_path), "anything")
        assert plain.frame_ids == ("a", "b")
        assert not plain.has_labels

    def test_folder_without_images_is_an_error(self, tmp_path):
        with pytest.raises(InputError, match="holds no image"):
            open_dataset(DatasetSettings(name="folder", root=tmp_path), "train")


class TestStreets(DatasetContract):
    settings = DatasetSettings(name="streets", size=(48, 96), frames=4)

    @pytest.fixture
    def dataset(self):
        return open_dataset(self.settings, "train")

    def reopened(self, dataset):
        return open_dataset(self.settings, "train")

    def changed(self, dataset):
        return open_dataset(self.settings.model_copy(update={"seed": 1}), "train")
