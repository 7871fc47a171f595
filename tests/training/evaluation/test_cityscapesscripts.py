"""Our figures against those of Cityscapes' own evaluation, on the same files."""

import copy

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from PIL import Image

from training.datasets import open_dataset
from training.datasets.cityscapes import LABEL_IDS, TRAIN_ID_TO_LABEL_ID
from training.evaluation.metrics import ConfusionMatrix
from training.settings import DatasetSettings
from training.taxonomy import CITYSCAPES, IGNORED

DRAWN = [label_id for _, label_id in LABEL_IDS if label_id >= 0]
TO_LABEL_ID = np.zeros(256, np.uint8)
"""What a file of predictions holds; a pixel without an answer is 0, `unlabeled`."""
for _train_id, _label_id in TRAIN_ID_TO_LABEL_ID.items():
    TO_LABEL_ID[_train_id] = _label_id


def save(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return str(path)


def by_label_id(*names):
    return [label_id for name, label_id in LABEL_IDS if name in names]


def official_scores(predictions, truths):
    arguments = copy.copy(official.args)
    arguments.evalInstLevelScore = arguments.JSONOutput = False
    arguments.quiet = True
    return official.evaluateImgLists(predictions, truths, arguments)


# Absent: neither true nor predicted. Missed: true, never predicted. Invented: predicted, never true.
@pytest.mark.parametrize(
    ("absent", "missed", "invented"),
    [
        ((), (), ()),
        (("train", "bus"), ("wall",), ("terrain",)),
        (("person", "rider", "sky"), ("pole", "traffic light", "traffic sign"), ("vegetation", "terrain")),
    ],
)
def test_scores_are_those_of_cityscapesscripts(tmp_path, absent, missed, invented):
    rng = np.random.default_rng(0)
    drawn = np.array([i for i in DRAWN if i not in by_label_id(*absent, *invented)], np.uint8)
    answers = [i for i, name in enumerate(CITYSCAPES.names) if name not in absent + missed]
    answers = np.array([*answers, IGNORED], np.uint8)
    predictions, truths = {}, {}
    for number in range(4):
        stem = f"ulm_000000_{number:06d}"
        truth = rng.choice(drawn, (24, 48))
        save(np.zeros((24, 48, 3), np.uint8), tmp_path / "leftImg8bit" / "val" / "ulm" / f"{stem}_leftImg8bit.png")
        truths[stem] = save(truth, tmp_path / "gtFine" / "val" / "ulm" / f"{stem}_gtFine_labelIds.png")
        predictions[stem] = rng.choice(answers, (24, 48))
    dataset = open_dataset(DatasetSettings(name="cityscapes", root=tmp_path), "val")
    assert list(dataset.frame_ids) == list(truths)
    confusion = ConfusionMatrix(dataset.taxonomy)
    for stem, prediction in predictions.items():
        confusion.update(dataset.labels(stem), prediction)

    files = [save(TO_LABEL_ID[mask], tmp_path / "results" / f"{stem}.png") for stem, mask in predictions.items()]
    theirs = official_scores(files, list(truths.values()))

    exactly = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(
        confusion.class_iou(), [theirs["classScores"][name] for name in CITYSCAPES.names], **exactly
    )
    np.testing.assert_allclose(
        confusion.category_iou(), [theirs["categoryScores"][name] for name in CITYSCAPES.categories], **exactly
    )
    np.testing.assert_allclose(confusion.miou_class(), theirs["averageScoreClasses"], **exactly)
    np.testing.assert_allclose(confusion.miou_category(), theirs["averageScoreCategories"], **exactly)
    assert np.isnan(confusion.class_iou()).sum() == len(absent)
    assert (confusion.class_iou() == 0).sum() == len(missed) + len(invented)
