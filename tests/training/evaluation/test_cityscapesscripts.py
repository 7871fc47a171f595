"""Our figures against those of Cityscapes' own evaluation, run on the same files."""

import copy
import json

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from click.testing import CliRunner
from PIL import Image

from training.cli import main
from training.datasets.cityscapes import LABEL_IDS, TRAIN_ID_TO_LABEL_ID
from training.taxonomy import CITYSCAPES

SIZE = (64, 128)
DRAWN = [label_id for _, label_id in LABEL_IDS if label_id >= 0]
EVALUATED = list(TRAIN_ID_TO_LABEL_ID.values())
CITIES = ("frankfurt", "lindau", "munster")
CONFIGURATION = {"name": "cityscapes", "pixels": "cityscapes", "cam": {"weights": "embedded"}}


def save(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def by_label_id(names):
    return [label_id for name, label_id in LABEL_IDS if name in names]


def label_map(rng, drawn):
    """Label ids in blocks, with single pixels strewn in."""
    blocks = rng.choice(drawn, (SIZE[0] // 8, SIZE[1] // 8)).repeat(8, axis=0).repeat(8, axis=1)
    return np.where(rng.random(SIZE) < 0.1, rng.choice(drawn, SIZE), blocks).astype(np.uint8)


def official_scores(root, predictions):
    """Run their evaluation: it finds the truths by its search string, and each one's prediction by its file name."""
    arguments = copy.copy(official.args)
    arguments.evalInstLevelScore = arguments.JSONOutput = False
    arguments.quiet = True
    arguments.predictionPath, arguments.predictionWalk = str(predictions), None
    truths = sorted(map(str, root.glob("gtFine/val/*/*_gtFine_labelIds.png")))
    found = [official.getPrediction(arguments, truth) for truth in truths]
    return official.evaluateImgLists(found, truths, arguments), len(truths)


def our_scores(root, predictions, *more):
    configuration = root / "small.yaml"
    configuration.write_text(json.dumps(CONFIGURATION | {"dataset": {"name": "cityscapes", "root": str(root)}}))
    arguments = ["evaluate", "--predictions", predictions, "--dataset", configuration, "--json", *more]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def assert_same(ours, theirs):
    """Compare every figure to 1e-9; theirs is NaN where ours is null."""

    def same(value, official_value):
        assert (value is None) == bool(np.isnan(official_value))
        assert value is None or abs(value - official_value) <= 1e-9

    assert list(ours["iou"]) == list(CITYSCAPES.names) and list(ours["iou_category"]) == list(CITYSCAPES.categories)
    for name, value in ours["iou"].items():
        same(value, theirs["classScores"][name])
    for name, value in ours["iou_category"].items():
        same(value, theirs["categoryScores"][name])
    same(ours["miou_class"], theirs["averageScoreClasses"])
    same(ours["miou_category"], theirs["averageScoreCategories"])


# Absent: neither true nor predicted. Missed: true, never predicted. Invented: predicted, never true. Predictions hold
# labels that are not evaluated, too (parking, bridge, unlabeled, ...): they count as missed.
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
    true = np.array([i for i in DRAWN if i not in by_label_id(absent + invented)], np.uint8)
    answered = np.array([i for i in DRAWN if i not in by_label_id(absent + missed)], np.uint8)
    for number in range(6):
        city = CITIES[number % 3]
        stem = f"{city}_{number // 3:06d}_{100 * number:06d}"
        save(np.zeros((*SIZE, 3), np.uint8), tmp_path / "leftImg8bit" / "val" / city / f"{stem}_leftImg8bit.png")
        truth = label_map(rng, true)
        save(truth, tmp_path / "gtFine" / "val" / city / f"{stem}_gtFine_labelIds.png")
        prediction = np.where(rng.random(SIZE) < 0.5, truth, label_map(rng, answered))
        prediction[~np.isin(prediction, answered)] = 0
        save(prediction, tmp_path / "results" / ("deep/er" if number % 2 else "") / f"{stem}_pred.png")
    theirs, frames = official_scores(tmp_path, tmp_path / "results")
    ours = our_scores(tmp_path, tmp_path / "results", "--out", tmp_path / "out")

    assert ours["frames"] == frames == 6
    assert_same(ours, theirs)
    assert [name for name, iou in ours["iou"].items() if iou is None] == [
        name for name in CITYSCAPES.names if name in absent
    ]
    assert [name for name, iou in ours["iou"].items() if iou == 0] == [
        name for name in CITYSCAPES.names if name in missed + invented
    ]
    # What was written is a submission folder of the same masks, to them and to us; labels not evaluated became 0.
    written, _ = official_scores(tmp_path, tmp_path / "out")
    assert_same(ours, written)
    again = our_scores(tmp_path, tmp_path / "out")
    assert {**again, "source": ""} == {**ours, "source": ""}
    assert set(np.flatnonzero(np.any(written["confMatrix"], axis=0))) <= {0, *EVALUATED}


def test_a_frame_without_a_prediction_or_with_two_is_named(tmp_path):
    stem = "lindau_000000_000019"
    save(np.zeros((*SIZE, 3), np.uint8), tmp_path / "leftImg8bit" / "val" / "lindau" / f"{stem}_leftImg8bit.png")
    save(np.full(SIZE, 7, np.uint8), tmp_path / "gtFine" / "val" / "lindau" / f"{stem}_gtFine_labelIds.png")
    (tmp_path / "results").mkdir()
    with pytest.raises(AssertionError, match=f"no prediction for frame '{stem}'"):
        our_scores(tmp_path, tmp_path / "results")
    for name in ("a", "b"):
        save(np.full(SIZE, 7, np.uint8), tmp_path / "results" / name / f"{stem}.png")
    with pytest.raises(AssertionError, match=f"2 predictions for frame '{stem}'"):
        our_scores(tmp_path, tmp_path / "results")


def test_nothing_but_ignored_truth_leaves_every_figure_undefined(tmp_path):
    stem = "lindau_000000_000019"
    save(np.zeros((*SIZE, 3), np.uint8), tmp_path / "leftImg8bit" / "val" / "lindau" / f"{stem}_leftImg8bit.png")
    save(np.full(SIZE, 4, np.uint8), tmp_path / "gtFine" / "val" / "lindau" / f"{stem}_gtFine_labelIds.png")
    save(np.full(SIZE, 7, np.uint8), tmp_path / "results" / f"{stem}.png")
    theirs, _ = official_scores(tmp_path, tmp_path / "results")
    ours = our_scores(tmp_path, tmp_path / "results")
    assert_same(ours, theirs)
    assert ours["miou_class"] is None
