"""What holds of eq (1) to (6) on any frame: bounds, symmetry, optima, and that superpixels' numbers do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linprog

from tests.training.pseudo_labels.regions import make_features
from training.pseudo_labels.inference import class_scores, label_regions, region_shares
from training.pseudo_labels.refinement import allowed_classes, refine
from training.pseudo_labels.representation import (
    Representation,
    expectation_maximisation,
    m_step,
    object_representation,
    scene_representation,
)
from training.pseudo_labels.similarity import context_similarity, histogram_intersection, imaging_features
from training.settings.method import RepresentationSettings
from training.taxonomy import BANDS, IGNORED, ClassInfo, Taxonomy

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 9)


@st.composite
def distributions(draw, rows, dimensions):
    """Rows that sum to 1, of few different values, so that zeros and ties are common."""
    parts = draw(arrays.arrays(np.int64, (rows, dimensions), elements=st.integers(0, 3)))
    parts[parts.sum(axis=1) == 0, 0] = 1
    return (parts / parts.sum(axis=1, keepdims=True)).astype(np.float32)


def random_features(random, count, bands=True):
    """Superpixels of which no two are alike, so that no tie decides."""
    edges = random.uniform(0.5, 1, (count, count)).astype(np.float32)
    edges = np.minimum(edges, edges.T)
    np.fill_diagonal(edges, 1)
    return make_features(
        count,
        labels=np.arange(count, dtype=np.int32)[:, None],
        semantic=random.dirichlet(np.ones(6), count).astype(np.float32),
        colour=(random.dirichlet(np.ones(32), (count, 3)).reshape(count, 96) / 3).astype(np.float32),
        texture=random.dirichlet(np.ones(32), count).astype(np.float32),
        saliency=random.dirichlet(np.full(32, 5.0), (count, 3)).astype(np.float32),
        edge_similarity=edges,
        band=random.integers(1, BANDS + 1, count).astype(np.uint8) if bands else np.full(count, 2, np.uint8),
    )


def renumbered(features, order):
    """The same frame, its superpixel `order[k]` now called k."""
    called = np.argsort(order)
    return make_features(
        len(order),
        **{
            name: getattr(features, name)[order]
            for name in ("semantic", "colour", "texture", "saliency", "band", "area")
        },
        labels=called[features.labels].astype(np.int32),
        edge_similarity=features.edge_similarity[np.ix_(order, order)],
    )


def random_taxonomy(random, classes):
    infos = [
        ClassInfo(
            name=f"class {number}",
            colour=(0, 0, 0),
            category="any",
            kind=str(random.choice(["object", "scene"])),
            bands=tuple(sorted(random.choice([1, 2, 3, 4], random.integers(1, 5), replace=False).tolist())),
        )
        for number in range(classes)
    ]
    return Taxonomy("test", tuple(infos))


# Eq (1)


@quick
@given(st.data(), counts, counts, st.integers(1, 12))
def test_equation_1_is_the_sum_of_minima_whichever_way_it_is_computed(data, first, second, dimensions):
    one, other = data.draw(distributions(first, dimensions)), data.draw(distributions(second, dimensions))
    similarity = histogram_intersection(one, other)
    assert similarity.dtype == np.float32
    assert similarity == pytest.approx(np.minimum(one[:, None], other[None]).sum(axis=2), abs=1e-6)
    assert histogram_intersection(other, one) == pytest.approx(similarity.T, abs=1e-6)


@quick
@given(st.data(), st.integers(1, 300), st.integers(1, 12))
def test_equation_1_is_bounded_symmetric_and_one_for_equals_alone(data, rows, dimensions):
    vectors = data.draw(distributions(rows, dimensions))
    similarity = histogram_intersection(vectors, vectors)
    assert np.array_equal(similarity, similarity.T)
    assert np.array_equal(similarity, histogram_intersection(vectors, vectors.copy()))
    assert similarity.min() >= 0 and similarity.max() <= 1 + 1e-6
    equal = (np.abs(vectors[:, None] - vectors[None]) < 1e-6).all(axis=2)
    assert np.array_equal(similarity > 1 - 1e-4, equal)


@quick
@given(st.data(), seeds, counts, st.integers(1, 12))
def test_equation_1_follows_the_superpixels_and_does_not_know_the_order_of_bins(data, seed, rows, dimensions):
    vectors, random = data.draw(distributions(rows, dimensions)), np.random.default_rng(seed)
    order, bins = random.permutation(rows), random.permutation(dimensions)
    similarity = histogram_intersection(vectors, vectors)
    assert np.array_equal(histogram_intersection(vectors[order], vectors[order]), similarity[np.ix_(order, order)])
    assert histogram_intersection(vectors[:, bins], vectors[:, bins]) == pytest.approx(similarity, abs=1e-6)


# Eq (2)


def linear_program_optimum(members):
    """Maximise sum t_in subject to t_in <= x_in, t_in <= m_n, sum m = 1: eq (2)'s M-step as a linear program."""
    count, dimensions = members.shape
    size = count * dimensions
    cost = np.concatenate([-np.ones(size), np.zeros(dimensions)])
    below_centre = np.hstack([np.eye(size), -np.tile(np.eye(dimensions), (count, 1))])
    mass = np.concatenate([np.zeros(size), np.ones(dimensions)])[None]
    bounds = [(0, x) for x in members.ravel()] + [(0, None)] * dimensions
    return -linprog(cost, below_centre, np.zeros(size), mass, [1], bounds).fun


@quick
@given(st.data(), st.integers(1, 5), st.integers(1, 6))
def test_the_m_step_is_as_good_as_the_linear_program(data, count, dimensions):
    members = data.draw(distributions(count, dimensions)).astype(np.float64)
    members /= members.sum(axis=1, keepdims=True)
    centre = m_step(members)
    assert centre.sum() == pytest.approx(1, abs=1e-9) and centre.min() >= 0
    assert np.minimum(members, centre).sum() == pytest.approx(linear_program_optimum(members), abs=1e-7)


@quick
@given(seeds, st.integers(1, 5), st.integers(1, 6), st.floats(0.05, 5))
def test_the_m_step_is_as_good_as_the_linear_program_on_random_members(seed, count, dimensions, concentration):
    members = np.random.default_rng(seed).dirichlet(np.full(dimensions, concentration), count)
    assert np.minimum(members, m_step(members)).sum() == pytest.approx(linear_program_optimum(members), abs=1e-7)


@quick
@given(st.data(), seeds, st.integers(1, 6), st.integers(1, 8))
def test_the_m_step_knows_no_order_of_members_and_follows_the_bins(data, seed, count, dimensions):
    members, random = data.draw(distributions(count, dimensions)), np.random.default_rng(seed)
    order, bins = random.permutation(count), random.permutation(dimensions)
    assert np.array_equal(m_step(members[order]), m_step(members))
    assert m_step(members[:, bins]) == pytest.approx(m_step(members)[bins], abs=1e-6)


@quick
@given(st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(1, 6))
def test_equation_2_never_falls_over_a_partition(data, count, groups, dimensions):
    vectors = data.draw(distributions(count, dimensions))
    starts = data.draw(distributions(groups, dimensions))
    centres, objective = expectation_maximisation(vectors, starts, lambda similarity: similarity.argmax(axis=1))
    assert np.diff(objective).min(initial=0) >= -1e-9
    assert objective[0] >= 0 and objective[-1] <= count * (1 + 1e-6)
    best = histogram_intersection(vectors, centres).max(axis=1).sum()
    assert best == pytest.approx(objective[-1], abs=1e-4)  # converged: no vector would gain by another centre


@quick
@given(seeds, st.integers(1, 30), st.floats(0.01, 1))
def test_equation_2_never_falls_over_the_most_similar_share(seed, count, share):
    features = random_features(np.random.default_rng(seed), count)
    found = object_representation(features, 0, 7, RepresentationSettings(object_share=share))
    assert np.diff(found.objective).min(initial=0) >= -1e-9
    assert found.members == max(1, round(share * count))
    nearest = np.sort(histogram_intersection(features.semantic, found.vectors)[:, 0])[-found.members :]
    assert nearest.sum() == pytest.approx(found.objective[-1], abs=1e-4)  # the set is the most similar one


@quick
@given(seeds, st.integers(1, 12))
def test_representations_do_not_know_the_numbers_of_superpixels(seed, count):
    random = np.random.default_rng(seed)
    features, order = random_features(random, count), random.permutation(count)
    annotated, called = 0, int(np.flatnonzero(order == 0)[0])
    chosen = RepresentationSettings(object_share=0.3, scene_neighbour_threshold=0.4, scene_group_threshold=0.3)
    for describe in (object_representation, scene_representation):
        one, other = describe(features, annotated, 3, chosen), describe(renumbered(features, order), called, 3, chosen)
        assert other.members == one.members and other.objective == pytest.approx(one.objective)
        assert np.sort(other.vectors, axis=0) == pytest.approx(np.sort(one.vectors, axis=0), abs=1e-6)


@quick
@given(seeds, st.integers(1, 12), st.integers(1, 5))
def test_representations_are_distributions_of_at_most_g_groups(seed, count, groups):
    features = random_features(np.random.default_rng(seed), count)
    chosen = RepresentationSettings(scene_groups=groups, scene_neighbour_threshold=0.4)
    scene, thing = scene_representation(features, 0, 1, chosen), object_representation(features, 0, 2, chosen)
    assert scene.vectors.shape[1] == 128 and 1 <= len(scene.vectors) <= groups and scene.members <= count
    assert thing.vectors.shape == (1, 6)
    for found in (scene, thing):
        assert found.vectors.dtype == np.float32 and found.vectors.min() >= 0
        assert found.vectors.sum(axis=1) == pytest.approx(np.ones(len(found.vectors)), abs=1e-5)
        assert np.diff(found.objective).min(initial=0) >= -1e-9


# Eq (3)


@quick
@given(seeds, counts, st.sampled_from([None, 0.1, 1.0]))
def test_equation_3_is_bounded_symmetric_and_follows_the_superpixels(seed, count, scale):
    random = np.random.default_rng(seed)
    features, order = random_features(random, count), random.permutation(count)
    context = context_similarity(features, scale)
    assert np.array_equal(context, context.T)
    assert np.diag(context) == pytest.approx(np.ones(count), abs=1e-5)
    assert context.min() >= 0 and (context <= features.edge_similarity + 1e-5).all()
    assert np.array_equal(context_similarity(renumbered(features, order), scale), context[np.ix_(order, order)])


# Eq (4)


@quick
@given(seeds, counts, st.integers(1, 4))
def test_equation_4_is_a_convex_combination(seed, count, classes):
    random = np.random.default_rng(seed)
    context = context_similarity(random_features(random, count))
    scores = random.random((count, classes), np.float32)
    refined = refine(scores, context)
    assert (refined >= scores.min(axis=0) - 1e-6).all() and (refined <= scores.max(axis=0) + 1e-6).all()
    alike = np.tile(scores[:1], (count, 1))
    assert refine(alike, context) == pytest.approx(alike, abs=1e-6)
    assert refine(scores, np.eye(count, dtype=np.float32)) == pytest.approx(scores)
    other = random.random((count, classes), np.float32)
    assert refine(scores + other, context) == pytest.approx(refined + refine(other, context), abs=1e-5)


@quick
@given(seeds, counts, st.integers(1, 4))
def test_equation_4_follows_superpixels_and_classes(seed, count, classes):
    random = np.random.default_rng(seed)
    features, order = random_features(random, count), random.permutation(count)
    scores, ids = random.random((count, classes), np.float32), random.permutation(classes)
    refined = refine(scores, context_similarity(features))
    found = refine(scores[order][:, ids], context_similarity(renumbered(features, order)))
    assert found == pytest.approx(refined[order][:, ids], abs=1e-6)


# Eq (5)


@quick
@given(seeds, counts, st.integers(1, 6))
def test_equation_5_by_its_words(seed, count, classes):
    random = np.random.default_rng(seed)
    taxonomy = random_taxonomy(random, classes)
    band = random.integers(1, BANDS + 1, count).astype(np.uint8)
    scores = (random.integers(0, 5, (count, classes)) / 4).astype(np.float32)  # some as high as their threshold
    threshold = (random.integers(0, 6, classes) / 4).astype(np.float32)
    labels = label_regions(scores, allowed_classes(band, taxonomy), taxonomy, threshold)
    assert labels.dtype == np.uint8
    for region in range(count):
        expected = IGNORED
        for kind in ("scene", "object"):  # an object comes before a scene, so it is written last
            here = [c for c, info in enumerate(taxonomy.classes) if info.kind == kind and band[region] in info.bands]
            best = max(here, key=lambda c, region=region: scores[region, c], default=None)
            if best is not None and scores[region, best] >= threshold[best]:
                expected = best
        assert labels[region] == expected


@quick
@given(seeds, counts, st.integers(1, 6))
def test_equation_5_keeps_to_the_bands_and_follows_superpixels_and_classes(seed, count, classes):
    random = np.random.default_rng(seed)
    taxonomy, ids, order = random_taxonomy(random, classes), random.permutation(classes), random.permutation(count)
    other = Taxonomy("test", tuple(taxonomy.classes[old] for old in ids))
    band = random.integers(1, BANDS + 1, count).astype(np.uint8)
    scores, threshold = random.random((count, classes), np.float32), random.random(classes).astype(np.float32) / 2
    labels = label_regions(scores, allowed_classes(band, taxonomy), taxonomy, threshold)
    assert all(label == IGNORED or b in taxonomy.classes[label].bands for label, b in zip(labels, band, strict=True))
    found = label_regions(scores[order][:, ids], allowed_classes(band[order], other), other, threshold[ids])
    assert np.append(ids, [IGNORED])[np.minimum(found, classes)].tolist() == labels[order].tolist()


# Eq (1), (3), (4) and (5) together


@quick
@given(seeds, st.integers(1, 12), st.integers(1, 5))
def test_a_frames_labels_do_not_know_the_numbers_of_its_superpixels(seed, count, classes):
    random = np.random.default_rng(seed)
    taxonomy, features, order = (
        random_taxonomy(random, classes),
        random_features(random, count),
        random.permutation(count),
    )
    vectors = {"object": features.semantic, "scene": imaging_features(features)}
    representations = [
        Representation(
            number,
            "semantic" if info.kind == "object" else "imaging",
            vectors[info.kind][random.choice(count, 2)],
            2,
            (2.0,),
        )
        for number, info in enumerate(taxonomy.classes)
    ]

    def label(frame):
        scores = class_scores(frame, representations, taxonomy)
        assert scores.min() >= 0 and scores.max() <= 1 + 1e-6
        refined = refine(scores, context_similarity(frame, 0.1))
        threshold = np.full(classes, 0.3, np.float32)
        return label_regions(refined, allowed_classes(frame.band, taxonomy), taxonomy, threshold)

    assert label(renumbered(features, order)).tolist() == label(features)[order].tolist()


# Eq (6)


@quick
@given(seeds, st.tuples(st.integers(1, 6), st.integers(1, 6)), st.integers(1, 4), st.integers(1, 4))
def test_equation_6_is_the_share_of_pixels_counted_by_hand(seed, shape, count, classes):
    random = np.random.default_rng(seed)
    labels = np.unique(random.integers(0, count, shape), return_inverse=True)[1].reshape(shape).astype(np.int32)
    prediction = random.integers(0, classes, shape).astype(np.uint8)
    shares = region_shares(prediction, labels, classes)
    assert shares.sum(axis=1) == pytest.approx(np.ones(labels.max() + 1))
    for region, row in enumerate(shares):
        inside = prediction[labels == region].tolist()
        assert row == pytest.approx([inside.count(number) / len(inside) for number in range(classes)])
    number, ids = random.permutation(labels.max() + 1), random.permutation(classes)
    found = region_shares(ids[prediction].astype(np.uint8), number[labels].astype(np.int32), classes)
    assert np.array_equal(found[np.ix_(number, ids)], shares)
