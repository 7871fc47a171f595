import numpy as np
import pytest
import torch

from serving.frames import resize_frame
from training.segmentation.batches import (
    Sample,
    SoftLabels,
    augment,
    chosen_frames,
    class_mix,
    make_batch,
    normalise,
    prepared,
    resized,
)
from training.settings.learning import TrainerSettings

FRAME_IDS = [f"f{index}" for index in range(5)]


def load(frame_id):
    value = int(frame_id[1:])
    rng = np.random.default_rng(value)
    return Sample(rng.integers(0, 256, (40, 48, 3), np.uint8), rng.integers(0, 3, (40, 48), np.uint8))


def load_soft(frame_id):
    """Superpixels of 5 x 6 pixels, of which a part is ignored; a label is the likeliest class."""
    rng = np.random.default_rng(int(frame_id[1:]))
    distributions = rng.dirichlet(np.ones(3), 64).astype(np.float32)
    regions = np.kron(rng.permutation(64).reshape(8, 8), np.ones((5, 6))).astype(np.int32)
    labels = distributions.argmax(axis=1).astype(np.uint8)
    labels[:8], distributions[:8] = 255, 0
    return load(frame_id)._replace(labels=labels[regions], soft=SoftLabels(regions, distributions))


def settings(**changes):
    return TrainerSettings(**({"batch": 2, "crop": (32, 32), "updates": 5} | changes))


def batch(update, chosen=None, load=load, **changes):
    arguments = {"seed": 0, "round_number": 0} | changes
    return make_batch(load, FRAME_IDS, chosen or settings(), update=update, **arguments)


def test_a_batch_is_a_pure_function_of_seed_round_and_update():
    first, same = batch(3), batch(3)
    assert torch.equal(first.images, same.images) and torch.equal(first.labels, same.labels)
    for other in (batch(4), batch(3, seed=1), batch(3, round_number=1)):
        assert not torch.equal(first.images, other.images)


def test_shapes_and_types():
    images, labels, confidence, distributions = batch(0)
    assert images.shape == (2, 3, 32, 32) and images.dtype == torch.float32
    assert labels.shape == (2, 32, 32) and labels.dtype == torch.int64
    assert confidence.shape == (2, 32, 32) and (confidence == 1).all()
    assert distributions is None
    soft = batch(0, load=load_soft).distributions
    assert soft.shape == (2, 3, 32, 32) and soft.dtype == torch.float32


@pytest.mark.parametrize("mix", [0, 0.5])
def test_shares_are_the_batch(mix):
    chosen = settings(batch=4, class_mix=mix)
    whole = batch(2, chosen, load_soft)
    shares = [batch(2, chosen, load_soft, share=(number, 2)) for number in range(2)]
    for field in ("images", "labels", "confidence", "distributions"):
        assert torch.equal(torch.cat([getattr(share, field) for share in shares]), getattr(whole, field))


def test_class_mix_pastes_half_of_the_classes():
    labels = np.array([[0, 1, 2, 3, 255]], np.uint8)
    source = Sample(np.full((1, 5, 3), 9, np.uint8), labels, np.full((1, 5), 40, np.uint8))
    target = Sample(np.zeros((1, 5, 3), np.uint8), np.full((1, 5), 4, np.uint8), np.full((1, 5), 80, np.uint8))
    mixed = class_mix(source, target, np.random.default_rng(0))
    pasted = mixed.labels != 4
    assert pasted.sum() == 2 and not pasted[0, 4]
    assert np.array_equal(mixed.labels[pasted], source.labels[pasted])
    assert (mixed.frame[pasted] == 9).all() and (mixed.frame[~pasted] == 0).all()
    assert (mixed.confidence == np.where(pasted, 40, 80)).all()


def test_all_crops_are_mixed_where_that_is_asked():
    plain, mixed = batch(0), batch(0, settings(class_mix=1))
    assert not torch.equal(plain.labels, mixed.labels)
    partner = plain.labels.flip(0)
    assert ((mixed.labels == plain.labels) | (mixed.labels == partner)).all()


@pytest.mark.parametrize("mix", [0, 1])
@pytest.mark.parametrize("update", range(4))
def test_distributions_follow_their_labels_through_scale_crop_mirror_and_mix(mix, update):
    chosen = settings(batch=3, crop=(40, 64), class_mix=mix)
    soft = batch(update, chosen, load_soft)
    hard = batch(update, chosen, lambda frame_id: load_soft(frame_id)._replace(soft=None))
    assert torch.equal(soft.images, hard.images) and torch.equal(soft.labels, hard.labels)
    counted = soft.labels != 255
    assert 0 < counted.sum() < counted.numel()
    assert torch.equal(soft.distributions.argmax(dim=1)[counted], soft.labels[counted])
    torch.testing.assert_close(soft.distributions.sum(dim=1)[counted], torch.ones(int(counted.sum())))


def test_each_pass_takes_each_frame_once():
    seen = [
        frame_id
        for update in range(5)
        for frame_id in chosen_frames(FRAME_IDS, 2, seed=0, round_number=0, update=update)
    ]
    assert sorted(seen[:5]) == sorted(seen[5:]) == FRAME_IDS
    assert seen[:5] != seen[5:]


def test_a_crop_is_of_the_frame_that_is_chosen_for_its_place():
    def marked(frame_id):
        return load(frame_id)._replace(labels=np.full((40, 48), int(frame_id[1:]), np.uint8))

    whole = settings(batch=4, scales=(1, 1))
    chosen = chosen_frames(FRAME_IDS, 4, seed=0, round_number=0, update=1)
    for number in range(2):
        labels = batch(1, whole, marked, share=(number, 2)).labels
        assert [f"f{int(one[0, 0])}" for one in labels] == list(chosen[2 * number : 2 * number + 2])


def test_prepared_batches_are_those_of_their_updates():
    arguments = {"seed": 0, "round_number": 0}
    batches = list(prepared(load, FRAME_IDS, settings(), updates=range(2, 12), **arguments))
    assert len(batches) == 10
    for update, prepared_batch in enumerate(batches, 2):
        assert torch.equal(prepared_batch.images, batch(update).images)
    assert list(prepared(load, FRAME_IDS, settings(), updates=range(5, 5), **arguments)) == []


def test_an_error_in_loading_reaches_the_trainer():
    def broken(frame_id):
        raise OSError(frame_id)

    with pytest.raises(OSError, match="f"):
        next(prepared(broken, FRAME_IDS, settings(), seed=0, round_number=0, updates=range(2)))


def test_scale_one_is_what_the_exported_model_sees():
    """A frame of twice the network's input size is cut as the model sees it: from the resized frame."""
    large = load_soft("f0")
    large = large._replace(confidence=np.where(large.labels == 1, 100, 255).astype(np.uint8))
    small = resized(large, 20, 24)
    assert np.array_equal(small.frame, resize_frame(large.frame, 20, 24))
    # The pixel by centres, (2 y + 1, 2 x + 1) of the large frame.
    assert np.array_equal(small.labels, large.labels[1::2, 1::2])
    assert np.array_equal(small.confidence, large.confidence[1::2, 1::2])
    assert np.array_equal(small.soft.regions, large.soft.regions[1::2, 1::2])
    assert small.soft.distributions is large.soft.distributions
    assert resized(small, 20, 24) is small


def test_unscaled_crop_of_the_whole_frame_is_the_frame_or_its_mirror():
    sample = load("f0")
    labels, mirrored = sample.labels, set()
    for seed in range(8):
        cut = augment(sample, settings(crop=(40, 48), scales=(1, 1)), np.random.default_rng(seed)).labels
        assert np.array_equal(cut, labels) or np.array_equal(cut, labels[:, ::-1])
        mirrored.add(np.array_equal(cut, labels))
    assert mirrored == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_labels_follow_their_pixels(seed):
    # White where the label is 1, black where it is 0, in blocks that survive interpolation and jitter.
    labels = np.kron(np.random.default_rng(seed).integers(0, 2, (5, 6)), np.ones((16, 16))).astype(np.uint8)
    frame = np.repeat(255 * labels[..., None], 3, axis=2)
    image, cut, *_ = augment(Sample(frame, labels), settings(scales=(0.75, 1.5)), np.random.default_rng(seed))
    assert (cut <= 1).all()
    assert ((image[..., 0] > 127) == (cut == 1)).mean() > 0.95


def test_a_frame_smaller_than_the_crop_is_padded_and_ignored_there():
    sample = Sample(np.full((20, 30, 3), 200, np.uint8), np.zeros((20, 30), np.uint8), np.full((20, 30), 128, np.uint8))
    image, cut, confidence, _ = augment(sample, settings(crop=(64, 64), scales=(1, 1)), np.random.default_rng(0))
    rows, columns = np.nonzero(cut == 0)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, rows.size) == (20, 30, 600)
    assert (cut[cut != 0] == 255).all()
    assert np.abs(normalise(image[cut == 255])).max() < 1  # the mean colour, jittered
    assert np.array_equal(confidence, np.where(cut == 0, 128, 0))


def test_normalise():
    mean = np.array([[[0.485, 0.456, 0.406]]], np.float32) * 255
    np.testing.assert_allclose(normalise(mean), 0, atol=1e-6)
    assert normalise(np.zeros((1, 1, 3), np.float32))[0, 0] == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
