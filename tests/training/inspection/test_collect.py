import dataclasses
import shutil

import numpy as np
import pytest
from scipy import ndimage

from serving.errors import InputError
from tests.training.inspection.frames import FEATURES, FRAME, SPREAD, make_intermediates
from training.annotations.pixels import load_pixels
from training.configuration import load_settings
from training.datasets.crops import CROP_CLASSES
from training.datasets.streets import Streets
from training.features.cam import load_classifier
from training.features.edges import edge_map
from training.features.embedding import EmbeddingBasis, LayerPasses
from training.features.extraction import BASIS, describe_frames
from training.features.lab import rgb_to_lab
from training.features.superpixels import superpixels
from training.inspection.collect import inspect_frame, network_classes
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.scoring import score_frames
from training.run_folder import write_json, write_yaml
from training.settings.method import CamSettings

SIZE = (64, 128)
STREETS = Streets("train", size=SIZE, train_frames=4)
LIMITED = (STREETS.frame_ids[0], STREETS.frame_ids[2])
GRAPH = "round_0/pseudo_labels/graph.npz"


def test_a_small_frame_by_hand():
    found = make_intermediates("literal")
    # Of the four superpixels the object's own alone describes it: 1 % of 4, at least one.
    assert found.features.class_maps[:, 2].tolist() == [0, 0, 0, 1]
    # Road and wall share their texture, half of the imaging feature, with everything.
    assert found.features.class_maps[:, :2].tolist() == [[1, 0.5], [1, 0.5], [0.5, 1], [0.5, 0.5]]
    assert list(found.similarities) == ["semantic", "colour", "texture", "edges", "context"]
    assert found.similarities["semantic"][0].tolist() == [1, 0.5, 0, 0]
    assert found.similarities["colour"][0].tolist() == pytest.approx([1, 1, 0, 0])
    assert found.similarities["texture"][0].tolist() == [1, 1, 1, 1]
    assert np.array_equal(found.similarities["edges"], FEATURES.edge_similarity)
    assert np.array_equal(found.similarities["context"], FEATURES.edge_similarity)
    assert [(pixel.class_id, pixel.x, pixel.y) for pixel in found.annotated] == [(0, 0, 1), (1, 1, 4), (2, 5, 5)]
    assert np.array_equal(found.scored.before, found.features.class_maps)
    # The wall's column of context is (0, 1/2, 1, 0): a third of road's superpixel, two of its own.
    assert found.scored.after[2].tolist() == pytest.approx([2 / 3, 5 / 6, 0])
    assert found.scoring.labels("frame").tolist() == [0, 0, 1, 2]


def test_a_small_frame_by_hand_whose_labels_are_spread():
    found = make_intermediates("best")
    # Each superpixel's cosine to those of the annotated pixels, 0, 2 and 3; -0.6 and -0.48 are clipped.
    assert found.features.class_maps == pytest.approx(np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0, 0, 1]]))
    assert list(found.similarities) == ["embedding", "semantic", "colour", "texture", "edges", "context"]
    assert found.similarities["embedding"][1] == pytest.approx(np.array([0.8, 1, 0.6, 0]))
    assert found.similarities["semantic"][0].tolist() == [1, 0.5, 0, 0]
    assert np.array_equal(found.scored.before, SPREAD)
    assert found.scored.after[2].tolist() == pytest.approx([0, 1, 1.1])
    assert found.scoring.labels("frame").tolist() == [0, 0, 2, 2]


def test_maps_are_those_of_the_frame():
    found = make_intermediates("paper")
    assert np.array_equal(found.edges, edge_map(rgb_to_lab(FRAME)))
    assert list(found.saliency) == ["whole frame", "2 × 2 tiles", "3 × 3 tiles"]
    for view in found.saliency.values():
        assert view.shape == (6, 6) and view.min() >= 0 and view.max() <= 1


def test_names_of_the_networks_classes():
    assert network_classes(CamSettings(weights="embedded"), len(CROP_CLASSES)) == CROP_CLASSES
    imagenet = network_classes(CamSettings(weights="file.safetensors"), 1000)
    assert len(imagenet) == 1000 and imagenet[0] == "tench" and "streetcar" in imagenet
    assert network_classes(CamSettings(weights="file.safetensors"), 2) == ("class 0", "class 1")


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """Tiny streets, each class annotated where it is deepest in the first three frames, or anywhere."""
    pixels = {name: {"image": STREETS.frame_ids[0], "x": 3, "y": 3} for name in STREETS.taxonomy.names}
    for frame_id in STREETS.frame_ids[:3]:
        labels = STREETS.labels(frame_id)
        for class_id in np.unique(labels[labels != 255]):
            depth = ndimage.distance_transform_edt(labels == class_id)
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            pixels[STREETS.taxonomy.names[class_id]] = {"image": frame_id, "x": int(x), "y": int(y)}
    path = tmp_path_factory.mktemp("pixels") / "pixels.yaml"
    write_yaml(path, {"dataset": "streets", "pixels": pixels})
    return [
        f"pixels={path}",
        f"dataset.size={list(SIZE)}",
        "dataset.frames=4",
        "dataset.limit=2",
        "superpixels.count=40",
        "cam.slice_height=65",
        "embedding.passes=[{height: 65, layers: [features.3, features.17], weights: [1, 1]}]",
    ]


@pytest.fixture(scope="module")
def runs(overrides, tmp_path_factory):
    """By preset the settings and the folder of a run that has labelled its frames; the last frame is none of them."""
    return {
        preset: make_run(overrides, preset, tmp_path_factory.mktemp("runs") / "run") for preset in ("paper", "best")
    }


def make_run(overrides, preset, folder):
    settings = load_settings("streets", [*overrides, f"pseudo_labels.preset={preset}"])
    pixels = load_pixels(settings.pixels, STREETS.taxonomy, "streets")
    if settings.pseudo_labels.method == "propagation":
        passes = LayerPasses(load_classifier(settings.cam), settings.embedding)
        samples = []
        for frame_id in STREETS.frame_ids[:3]:
            labels = superpixels(STREETS.frame(frame_id), settings.superpixels)
            samples.append(passes.describe(STREETS.frame(frame_id), labels, int(labels.max()) + 1))
        EmbeddingBasis.fit(samples, settings.embedding).save(folder / "features" / BASIS)
    describe = describe_frames(settings, folder / "features" / BASIS)
    for frame_id in STREETS.frame_ids[:3]:
        describe(STREETS.frame(frame_id)).save(folder / "features" / f"{frame_id}.npz")
    write_yaml(folder / "settings.yaml", settings.model_dump(mode="json"))
    write_yaml(folder / "pixels.yaml", pixels.model_dump())
    write_json(folder / "state.json", {})
    score_frames(settings, folder / "features", LIMITED, pixels, STREETS.taxonomy, folder / GRAPH)
    return settings, folder


@pytest.mark.parametrize("preset", ["paper", "best"])
def test_a_frame_is_labelled_as_the_pipeline_does(runs, preset):
    settings, folder = runs[preset]
    found = inspect_frame(settings, LIMITED[1], folder, warn=lambda _: None)
    pixels = load_pixels(settings.pixels, STREETS.taxonomy, "streets")
    expected = score_frames(settings, folder / "features", LIMITED, pixels, STREETS.taxonomy)
    assert found.scoring.frames.keys() == set(LIMITED)
    for frame_id in LIMITED:
        assert np.array_equal(found.scoring.frames[frame_id].after, expected.frames[frame_id].after)
        assert np.array_equal(found.scoring.labels(frame_id), expected.labels(frame_id))
    assert np.array_equal(found.frame, STREETS.frame(LIMITED[1]))
    assert np.array_equal(found.truth, STREETS.labels(LIMITED[1]))
    kept = np.load(folder / "features" / f"{LIMITED[1]}.npz")
    assert np.array_equal(found.features.regions.labels, kept["labels"])
    assert len(found.features.class_maps) == len(found.scored.after) == found.features.regions.labels.max() + 1


@pytest.mark.parametrize("preset", ["paper", "best"])
def test_a_frame_outside_the_limit_is_scored_too_and_the_run_stays_as_it_is(runs, preset):
    settings, folder = runs[preset]
    before = sorted(folder.rglob("*"))
    frame_id = STREETS.frame_ids[3]
    found = inspect_frame(settings, frame_id, folder, warn=lambda _: None)
    assert list(found.scoring.frames) == [*LIMITED, frame_id]
    assert sorted(folder.rglob("*")) == before


def test_a_frame_outside_the_graph_is_attached_to_it(runs):
    settings, folder = runs["best"]
    frame_id = STREETS.frame_ids[3]
    found = inspect_frame(settings, frame_id, folder, warn=lambda _: None)
    regions = describe_frames(settings, folder / "features" / BASIS)(STREETS.frame(frame_id))
    # What is kept of an embedding is rounded to half precision.
    np.testing.assert_allclose(found.features.embedding, regions.embedding, atol=1e-3)
    rounded = dataclasses.replace(regions, embedding=found.features.embedding)
    graph = Propagation.load(folder / GRAPH, settings.propagation)
    assert np.array_equal(found.scored.before, graph.attach(rounded))


def test_the_runs_graph_is_read_where_it_fits_and_solved_anew_where_not(runs, tmp_path):
    settings, folder = runs["best"]
    shutil.copytree(folder, tmp_path / "run")
    graph = Propagation.load(folder / GRAPH, settings.propagation)
    dataclasses.replace(graph, scores=-graph.scores).save(tmp_path / "run" / GRAPH)
    own = graph.scores_of(LIMITED[0], None)
    found = inspect_frame(settings, LIMITED[0], tmp_path / "run", warn=lambda _: None)
    assert np.array_equal(found.scored.before, -own)
    (tmp_path / "run" / GRAPH).unlink()
    found = inspect_frame(settings, LIMITED[0], tmp_path / "run", warn=lambda _: None)
    assert np.array_equal(found.scored.before, own)


def test_mistakes_are_named(overrides, tmp_path):
    settings = load_settings("streets", overrides)
    with pytest.raises(InputError, match=r"--frame absent.*streets_train_0000 to streets_train_0003"):
        inspect_frame(settings, "absent", None, warn=pytest.fail)
    with pytest.raises(InputError, match="holds no run"):
        inspect_frame(settings, "streets_train_0000", tmp_path, warn=lambda _: None)
