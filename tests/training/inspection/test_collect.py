import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2lab

from serving.errors import InputError
from tests.training.inspection.frames import FEATURES, FRAME, PIXELS, TAXONOMY, make_intermediates, make_settings
from training.annotations.pixels import load_pixels
from training.datasets.crops import CROP_CLASSES
from training.datasets.streets import Streets
from training.features.cam import ClassActivation, load_classifier
from training.features.edges import edge_map
from training.features.regions import RegionFeatures, region_features
from training.inspection.collect import inspect_frame, label_data_set, network_classes
from training.pseudo_labels.labelling import initial_labels, represent_classes
from training.run_folder import write_json, write_yaml
from training.settings import CamSettings, load_settings

SIZE = (64, 128)


def test_a_small_frame_by_hand():
    found = make_intermediates(preset="literal")
    # Of the four superpixels the object's own alone describes it: 1 % of 4, at least one.
    assert found.class_maps[:, 2].tolist() == [0, 0, 0, 1]
    # Road and wall share their texture, half of the imaging feature, with everything.
    assert found.class_maps[:, :2].tolist() == [[1, 0.5], [1, 0.5], [0.5, 1], [0.5, 0.5]]
    assert found.semantic_similarity[0].tolist() == [1, 0.5, 0, 0]
    assert found.colour_similarity[0].tolist() == pytest.approx([1, 1, 0, 0])
    assert found.texture_similarity[0].tolist() == [1, 1, 1, 1]
    assert np.array_equal(found.context, FEATURES.edge_similarity)
    assert [(pixel.class_id, pixel.x, pixel.y) for pixel in found.annotated] == [(0, 0, 1), (1, 1, 4), (2, 5, 5)]
    labelling = found.labelling
    assert np.array_equal(labelling.frame.scores_before, found.class_maps)
    # The wall's column of context is (0, 1/2, 1, 0): a third of road's superpixel, two of its own.
    assert labelling.frame.scores_after[2].tolist() == pytest.approx([2 / 3, 5 / 6, 0])
    assert labelling.frame.labels.tolist() == [0, 0, 1, 2]
    assert labelling.thresholds.tolist() == pytest.approx([0.05] * 3)


def test_paper_scores_are_deviations_before_and_after():
    labelling = make_intermediates(preset="paper", object_threshold=1.5).labelling
    for scores in (labelling.scores_before, labelling.scores_after):
        assert scores.mean(axis=0) == pytest.approx(0, abs=1e-6)
        assert scores.std(axis=0) == pytest.approx(1, abs=1e-5)
    assert labelling.thresholds.tolist() == [-1, -1, 1.5]
    assert labelling.frame.labels.tolist() == [0, 0, 1, 2]


def test_edges_are_those_of_the_frame():
    found = make_intermediates()
    assert np.array_equal(found.edges, edge_map(rgb2lab(FRAME).astype(np.float32)))
    assert found.saliency.shape == (3, 6, 6) and found.saliency.min() >= 0 and found.saliency.max() <= 1


@pytest.mark.parametrize("preset", ["paper", "literal"])
def test_labels_are_the_pipelines(preset):
    rng = np.random.default_rng(1)

    def shuffled():
        semantic = rng.dirichlet(np.full(4, 0.3), 4).astype(np.float32)
        colour = rng.dirichlet(np.full(96, 0.05), 4).astype(np.float32)
        return RegionFeatures(**(vars(FEATURES) | {"semantic": semantic, "colour": colour}))

    frames = {"frame": FEATURES} | {f"other {number}": shuffled() for number in range(6)}
    settings = make_settings(preset=preset, object_threshold=1.0, scene_threshold=-0.2)
    representations = represent_classes(PIXELS, frames.__getitem__, TAXONOMY, settings.representation)
    arguments = (list(frames), frames.__getitem__, representations, TAXONOMY, settings.pseudo_labels)
    expected = dict(initial_labels(*arguments))
    for name in frames:
        assert np.array_equal(label_data_set(name, *arguments).frame.labels, expected[name])


def test_names_of_the_networks_classes():
    assert network_classes(CamSettings(weights="embedded"), len(CROP_CLASSES)) == CROP_CLASSES
    imagenet = network_classes(CamSettings(weights="file.safetensors"), 1000)
    assert len(imagenet) == 1000 and imagenet[0] == "tench" and "streetcar" in imagenet
    assert network_classes(CamSettings(weights="file.safetensors"), 2) == ("class 0", "class 1")


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """Tiny streets, each class annotated where it is deepest in the first four frames, or anywhere."""
    streets = Streets("train", size=SIZE, train_frames=4)
    pixels = {name: {"image": streets.frame_ids[0], "x": 3, "y": 3} for name in streets.taxonomy.names}
    for frame_id in streets.frame_ids:
        labels = streets.labels(frame_id)
        for class_id in np.unique(labels[labels != 255]):
            depth = ndimage.distance_transform_edt(labels == class_id)
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            pixels[streets.taxonomy.names[class_id]] = {"image": frame_id, "x": int(x), "y": int(y)}
    path = tmp_path_factory.mktemp("pixels") / "pixels.yaml"
    write_yaml(path, {"dataset": "streets", "pixels": pixels})
    return [
        f"pixels={path}",
        "workers=1",
        f"dataset.size={list(SIZE)}",
        "dataset.frames=4",
        "dataset.limit=2",
        "superpixels.count=40",
        "cam.slice_height=65",
    ]


@pytest.fixture(scope="module")
def run(overrides, tmp_path_factory):
    """The folder of a run of which the features are there."""
    settings = load_settings("streets", overrides)
    folder = tmp_path_factory.mktemp("runs") / "run"
    streets = Streets("train", size=SIZE, train_frames=4)
    activation = ClassActivation(load_classifier(settings.cam))
    for frame_id in streets.frame_ids:
        features = region_features(streets.frame(frame_id), activation, settings.superpixels, settings.cam)
        features.save(folder / "features" / f"{frame_id}.npz")
    write_yaml(folder / "settings.yaml", settings.model_dump(mode="json"))
    write_json(folder / "state.json", {})
    return folder


def test_a_streets_frame_is_labelled_as_the_pipeline_does(overrides, run):
    settings = load_settings("streets", overrides)
    streets = Streets("train", size=SIZE, train_frames=4)
    frame_id = streets.frame_ids[2]
    found = inspect_frame(settings, frame_id, run, warn=lambda _: None)

    def load(name):
        return RegionFeatures.load(run / "features" / f"{name}.npz")

    pixels = load_pixels(settings.pixels, streets.taxonomy, "streets")
    representations = represent_classes(pixels, load, streets.taxonomy, settings.representation)
    limited = [streets.frame_ids[0], frame_id]
    labels = initial_labels(limited, load, representations, streets.taxonomy, settings.pseudo_labels)
    assert np.array_equal(found.labelling.frame.labels, dict(labels)[frame_id])
    assert np.array_equal(found.frame, streets.frame(frame_id))
    assert np.array_equal(found.truth, streets.labels(frame_id))
    assert found.frames == 2 and len(found.labelling.allowed) == sum(len(load(name).area) for name in limited)


def test_a_frame_outside_the_limit_joins_the_others(overrides, run):
    found = inspect_frame(load_settings("streets", overrides), "streets_train_0003", run, warn=lambda _: None)
    assert found.frames == 3


def test_mistakes_are_named(overrides, run, tmp_path):
    settings = load_settings("streets", overrides)
    with pytest.raises(InputError, match=r"--frame absent.*streets_train_0000 to streets_train_0003"):
        inspect_frame(settings, "absent", None, warn=pytest.fail)
    with pytest.raises(InputError, match="holds no run"):
        inspect_frame(settings, "streets_train_0000", tmp_path, warn=lambda _: None)
    other = load_settings("streets", [*overrides, "superpixels.count=50"])
    with pytest.raises(InputError, match=r"superpixels\.count=40, not 50"):
        inspect_frame(other, "streets_train_0000", run, warn=lambda _: None)
