import csv
import io

import numpy as np

from training.evaluation.confusion import confusion_csv, confusion_figure
from training.evaluation.metrics import ConfusionMatrix
from training.taxonomy import CAMVID, CITYSCAPES


def confusion_of(taxonomy, truth, prediction):
    confusion = ConfusionMatrix(taxonomy)
    confusion.update(np.array(truth, np.uint8), np.array(prediction, np.uint8))
    return confusion


def test_csv_holds_names_and_counts():
    table = confusion_csv(confusion_of(CITYSCAPES, [0, 0, 0, 6, 6, 255], [0, 0, 6, 6, 255, 1]))
    header, *rows = csv.reader(io.StringIO(table))
    assert header == ["true \\ predicted", *CITYSCAPES.names, "unlabelled"]
    assert [row[0] for row in rows] == list(CITYSCAPES.names)
    cells = {
        (row[0], name): int(cell) for row in rows for name, cell in zip(header[1:], row[1:], strict=True) if cell != "0"
    }
    assert cells == {
        ("road", "road"): 2,
        ("road", "traffic light"): 1,
        ("traffic light", "traffic light"): 1,
        ("traffic light", "unlabelled"): 1,
    }


def test_the_figure_is_one_row_and_one_column_per_class():
    classes = list(range(19))
    right = confusion_figure(confusion_of(CITYSCAPES, classes, classes))
    assert right.dtype == np.uint8 and right.shape[2] == 3
    missed = confusion_figure(confusion_of(CITYSCAPES, classes, [*classes[1:], 255]))
    assert missed.shape[0] == right.shape[0] and missed.shape[1] > right.shape[1]  # with a column of the unlabelled
    assert confusion_figure(confusion_of(CAMVID, [255], [0])).ndim == 3  # nothing counted, still a figure
