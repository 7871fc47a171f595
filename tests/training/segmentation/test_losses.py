import math

import numpy as np
import pytest
import torch

from training.segmentation.losses import balanced_weights, pixel_weights, segmentation_loss

# One cell, so each pixel has logits (0, log 3): probabilities 1/4 and 3/4.
LOGITS = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)
LABELS = torch.tensor([[[0, 1], [255, 255]]])
EACH = [math.log(4), math.log(4 / 3)]


def test_the_mean_over_the_pixels_that_count():
    weights = pixel_weights(LABELS, None, None)
    assert weights.tolist() == [[[1, 1], [0, 0]]]
    loss = segmentation_loss(LOGITS, LABELS, 16, weights, weights.sum())
    assert loss.item() == pytest.approx(sum(EACH) / 2)


def test_pixels_weigh_by_class_and_confidence():
    weights = pixel_weights(LABELS, torch.tensor([[[0.5, 1], [1, 1]]]), torch.tensor([4.0, 1]))
    assert weights.tolist() == [[[2, 1], [0, 0]]]
    loss = segmentation_loss(LOGITS, LABELS, 16, weights, weights.sum())
    assert loss.item() == pytest.approx((2 * EACH[0] + EACH[1]) / 3)


def test_soft_labels_are_the_expectation_over_the_classes():
    # A pixel that may be either, and one that is surely the second; the ignored ones have no distribution.
    distributions = torch.tensor([[[[0.25, 0], [0, 0]], [[0.75, 1], [0, 0]]]])
    weights = pixel_weights(LABELS, torch.tensor([[[0.5, 1], [1, 1]]]), torch.tensor([4.0, 1]))
    loss = segmentation_loss(LOGITS, distributions, 16, weights, weights.sum())
    assert loss.item() == pytest.approx((2 * (0.25 * EACH[0] + 0.75 * EACH[1]) + EACH[1]) / 3)


def test_a_part_of_a_batch_is_a_part_of_its_loss():
    weights = pixel_weights(LABELS, None, None)
    assert segmentation_loss(LOGITS, LABELS, 16, weights, 8).item() == pytest.approx(sum(EACH) / 8)


def test_nothing_labelled_is_no_loss():
    labels = torch.full((1, 2, 2), 255)
    assert segmentation_loss(LOGITS, labels, 16, pixel_weights(labels, None, None), 0).item() == 0


def test_balanced_weights():
    labels = [np.array([[0] * 16 + [255] * 9], np.uint8), np.array([[2] * 4], np.uint8)]
    assert balanced_weights(labels, 4, 0).tolist() == [1, 1, 1, 1]
    # Frequencies .8 and .2: to the power -1/2, 1.118 and 2.236, whose mean over the pixels is 1.342.
    assert balanced_weights(labels, 4, 0.5).tolist() == pytest.approx([0.8333, 1, 1.6667, 1], abs=1e-4)
    assert balanced_weights(labels, 4, 1).tolist() == pytest.approx([0.625, 1, 2.5, 1])
