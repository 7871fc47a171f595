import numpy as np
import pytest
import torch
from torchvision.models import MobileNetV2

from training.configuration import load_settings
from training.datasets.streets import Streets
from training.features.embedding import EmbeddedRegions
from training.pseudo_labels.inference import region_means
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.rounds import (
    LEAST_PROBABILITY,
    labels_by_prediction,
    labels_by_scores,
    scores_with_prediction,
)
from training.segmentation.networks import DeepLabMobileNetV2
from training.segmentation.prediction import class_probabilities, predict

SIZE = (48, 64)
STREETS = Streets("train", size=SIZE, train_frames=2)
CLASSES = len(STREETS.taxonomy.classes)
LABELS = np.kron(np.array([[0, 1], [2, 3]], np.int32), np.ones((24, 32), np.int32))
REGIONS = EmbeddedRegions(
    labels=LABELS,
    embedding=np.eye(4, dtype=np.float32),
    adjacent=np.array([[0, 1]], np.int32),
    contour=np.array([1], np.float32),
    band=np.array([1, 1, 3, 3], np.uint8),
    width=np.full(4, 0.5, np.float32),
    area=np.full(4, 24 * 32),
)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), CLASSES, aspp_rates=(1,))
    for parameter in made.head.parameters():
        parameter.data.mul_(300)  # opinions of its own
    return made.eval()


def settings(**changes):
    given = [f"dataset.size={list(SIZE)}", f"network.input_size={list(SIZE)}"]
    return load_settings("streets", [*given, *(f"iterations.{key}={value}" for key, value in changes.items())])


def test_region_means_by_hand():
    values = np.array([[[1, 2], [3, 5]], [[0, 0], [0, 4]]], np.float32)
    assert region_means(values, np.array([[0, 0], [1, 1]])).tolist() == [[1.5, 0], [4, 2]]


def test_the_networks_opinion_is_added_to_the_graphs_scores(network):
    scores = np.arange(4 * CLASSES, dtype=np.float32).reshape(4, CLASSES) / 100
    handicap = np.linspace(0, 0.2, CLASSES, dtype=np.float32)
    chosen = settings(prediction_weight=0.5)
    frame_id = STREETS.frame_ids[0]
    graph = Propagation((frame_id,), np.array([0, 4]), REGIONS.embedding, scores, handicap, chosen.propagation)
    found = scores_with_prediction(graph, network, STREETS, lambda _: REGIONS, [frame_id], chosen)
    probabilities = class_probabilities(network, STREETS.frame(frame_id), SIZE)
    assert probabilities.shape == (CLASSES, *SIZE)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=0), predict(network, STREETS.frame(frame_id), SIZE).class_ids)
    mean = np.stack([probabilities[:, region == LABELS].mean(axis=1) for region in range(4)])
    expected = scores - handicap + 0.5 * np.log(np.maximum(mean, LEAST_PROBABILITY))
    np.testing.assert_allclose(found.frames[frame_id].after, expected, atol=1e-4)
    (labelled,) = labels_by_scores(found, [frame_id], 0)
    assert labelled.frame_id == frame_id and np.array_equal(labelled.labels, found.labels(frame_id))
    assert labelled.confidence.shape == (4,) and (labelled.confidence > 0).all()
    assert labelled.distributions is None
    (soft,) = labels_by_scores(found, [frame_id], 0.5)
    assert np.array_equal(soft.distributions.argmax(axis=1), soft.labels)
    np.testing.assert_allclose(soft.distributions.sum(axis=1), 1, atol=1e-6)
    assert not soft.distributions[~found.frames[frame_id].allowed].any()


def test_what_the_graph_does_not_know_stays_open(network):
    scores = np.ones((4, CLASSES), np.float32)
    scores[2] = 0
    chosen, frame_id = settings(), STREETS.frame_ids[0]
    margin = np.full(CLASSES, 0.4, np.float32)
    graph = Propagation((frame_id,), np.array([0, 4]), REGIONS.embedding, scores, margin, chosen.propagation)
    found = scores_with_prediction(graph, network, STREETS, lambda _: REGIONS, [frame_id], chosen)
    assert (found.labels(frame_id) == 255).tolist() == [False, False, True, False]


def test_the_papers_loop_takes_the_prediction_alone(network):
    frame_id = STREETS.frame_ids[1]
    chosen = settings(loop="paper", refine=False, threshold=0)
    (labelled,) = labels_by_prediction(network, STREETS, lambda _: REGIONS, [frame_id], chosen)
    predicted = predict(network, STREETS.frame(frame_id), SIZE).class_ids
    counts = np.stack([np.bincount(predicted[region == LABELS], minlength=CLASSES) for region in range(4)])
    assert labelled.labels.tolist() == counts.argmax(axis=1).tolist()
    assert labelled.confidence == pytest.approx(counts.max(axis=1) / (24 * 32))
    assert labelled.distributions is None


def test_the_shares_of_the_prediction_are_the_soft_labels_of_temperature_1(network):
    frame_id = STREETS.frame_ids[1]
    chosen = settings(loop="paper", refine=False, threshold=0)
    soft = chosen.model_copy(update={"training": chosen.training.model_copy(update={"soft_labels": 1})})
    (labelled,) = labels_by_prediction(network, STREETS, lambda _: REGIONS, [frame_id], soft)
    predicted = predict(network, STREETS.frame(frame_id), SIZE).class_ids
    counts = np.stack([np.bincount(predicted[region == LABELS], minlength=CLASSES) for region in range(4)])
    shares = np.maximum(counts / (24 * 32), LEAST_PROBABILITY)
    np.testing.assert_allclose(labelled.distributions, shares / shares.sum(axis=1, keepdims=True), atol=1e-6)
