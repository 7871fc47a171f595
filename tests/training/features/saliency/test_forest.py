import json
from importlib.resources import files

import numpy as np
import onnx
import pytest
from sklearn.ensemble import RandomForestRegressor

from serving.errors import InputError
from training.features.saliency.descriptors import DESCRIPTORS
from training.features.saliency.embedded import MAXIMUM_BYTES
from training.features.saliency.forest import (
    EMBEDDED,
    KEY,
    Fitting,
    Forest,
    ForestMetadata,
    SegmentationSettings,
    load_forest,
)
from training.features.saliency.writing import forest_model, write_forest


def metadata(**changes):
    fitting = Fitting(
        source="noise", command="none", seed=0, images=1, fusion_images=1, held_out_images=1, regions=9, trees=7,
        scikit_learn="1",
    )  # fmt: skip
    segmentation = SegmentationSettings(levels=(8, 4))
    return ForestMetadata(segmentation=segmentation, fusion_weights=(0.75, 0.25), fitting=fitting, auc={}, **changes)


@pytest.fixture(scope="module")
def fitted():
    random = np.random.default_rng(0)
    descriptors = random.integers(0, 9, (400, 93)).astype(np.float32) / 8  # many values, and thresholds, are shared
    salient = (descriptors[:, 3] + descriptors[:, 90] > 1).astype(float)
    return RandomForestRegressor(7, max_features=15, random_state=0).fit(descriptors, salient)


def test_the_file_answers_as_scikit_learn_does(fitted, tmp_path):
    path = tmp_path / "made" / "forest.onnx"
    write_forest(forest_model([tree.tree_ for tree in fitted.estimators_], metadata()), path)
    assert [entry.name for entry in path.parent.iterdir()] == ["forest.onnx"]
    forest = load_forest(str(path))
    assert forest.metadata == metadata()
    random = np.random.default_rng(1)
    coarse = random.integers(0, 17, (500, 93)).astype(np.float32) / 16  # on the thresholds, the middles of the values
    for descriptors in (coarse, random.random((500, 93), np.float32), coarse[:1], coarse[:0]):
        expected = fitted.predict(descriptors) if len(descriptors) else np.zeros(0)
        found = forest.predict(descriptors)
        assert found.dtype == np.float32 and found.shape == (len(descriptors),)
        assert found == pytest.approx(expected, abs=1e-6)


def test_trees_without_a_question_answer_too():
    constant = RandomForestRegressor(2, random_state=0).fit(np.zeros((4, 93)), np.full(4, 0.25))
    model = forest_model([tree.tree_ for tree in constant.estimators_], metadata())
    forest = Forest(model.SerializeToString(), "constant")
    assert forest.predict(np.ones((3, 93), np.float32)).tolist() == [0.25] * 3


def test_a_wrong_file_is_told_from_a_forest(fitted, tmp_path):
    with pytest.raises(InputError, match=r"saliency\.forest: .*absent\.onnx cannot be read.*or 'embedded'"):
        load_forest(str(tmp_path / "absent.onnx"))
    text = tmp_path / "text.onnx"
    text.write_text("no protobuf")
    with pytest.raises(InputError, match=r"text\.onnx: not an ONNX file.*onepixel saliency fit"):
        load_forest(str(text))
    model = forest_model([tree.tree_ for tree in fitted.estimators_], metadata())
    del model.metadata_props[:]
    other = tmp_path / "other.onnx"
    onnx.save_model(model, other)
    with pytest.raises(InputError, match=rf"other\.onnx: no '{KEY}' metadata"):
        load_forest(str(other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, rf"'{KEY}\.schema_version': Input should be 1"),
        ({"descriptors": [*DESCRIPTORS[1:], DESCRIPTORS[0]]}, "descriptors are not the 93"),
        ({"fusion_weights": [1.0]}, "1 fusion_weights for 2 levels"),
        ({"segmentation": {"levels": []}}, rf"'{KEY}\.segmentation\.levels'"),
    ],
)
def test_a_forest_of_another_version_is_refused(fitted, change, message):
    model = forest_model([tree.tree_ for tree in fitted.estimators_], metadata())
    content = json.loads(model.metadata_props[0].value) | change
    onnx.helper.set_model_props(model, {KEY: json.dumps(content)})
    with pytest.raises(InputError, match=message):
        Forest(model.SerializeToString(), "old")


def test_the_embedded_forest_is_small_and_says_what_it_is():
    content = (files("training.features.saliency") / EMBEDDED).read_bytes()
    assert len(content) <= MAXIMUM_BYTES
    found = load_forest("embedded").metadata
    assert found.descriptors == DESCRIPTORS
    assert found.auc["drfi"] > found.auc["robust_background"] > found.auc["geodesic"] > 0.5
    assert found.fitting.command.startswith("python -m training.features.saliency.embedded")
    assert sum(found.fusion_weights) > 0.5 and min(found.fusion_weights) >= 0
