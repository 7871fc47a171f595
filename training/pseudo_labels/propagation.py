"""Labels spread from the annotated pixels over a graph of the regions of all frames: the preset `best`.

Regions that look alike are joined across frames by an approximate neighbour search, regions that touch are joined
within a frame where no contour parts them. Poisson learning (Calder et al., Poisson learning: graph based
semi-supervised learning at very low label rates, ICML 2020) finds each class's score everywhere from its one region.
Regions of new frames are attached to a graph that is already solved, without solving it anew.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import factorized

from serving.files import whole_file
from training.features.embedding import EmbeddedRegions
from training.pseudo_labels.refinement import where_allowed
from training.settings.method import PropagationSettings, PseudoLabelSettings
from training.taxonomy import Taxonomy

REGIONS_PER_CELL = 256
"""Regions in a cell of the neighbour index, on average."""
TRAINING_REGIONS = 64
"""Regions per cell from which the cells are found."""
SHARE_TURNS = 5
"""Turns over the object classes until their shares stand."""
SHARE_STEP = 1e-6
"""By this a handicap exceeds the lead of the first region that is not to be won."""
LEAK = 1e-4
"""Share of each region's degree that leaves the graph. It holds the scores of parts that are not joined finite; a part
without any annotated region scores 0."""


class NeighbourIndex:
    """The most similar regions of a collection, approximately: an inverted file of k-means cells (faiss).

    Parameters
    ----------
    embedding
        float32 [N, D], rows of length 1.
    settings
        `probes`, the cells that are searched.
    """

    def __init__(self, embedding: NDArray[np.float32], settings: PropagationSettings) -> None:
        count, dimensions = embedding.shape
        cells = max(1, count // REGIONS_PER_CELL)
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = 0
        self._index.cp.max_points_per_centroid = TRAINING_REGIONS
        self._index.cp.min_points_per_centroid = 1
        with _one_thread():
            self._index.train(embedding)
            self._index.add(embedding)
        self._index.nprobe = min(settings.probes, cells)

    def search(self, embedding: NDArray[np.float32], neighbours: int) -> tuple[NDArray, NDArray]:
        """Return cosine similarity, float32 [M, k], and number, int64 [M, k], of the nearest regions.

        Where fewer than k are found the number is -1.
        """
        with _one_thread():
            similarity, number = self._index.search(embedding, neighbours)
        return similarity, number


@dataclass(frozen=True)
class GraphRegions:
    """The regions of some frames, side by side: what a graph is made of. Frame f has regions first[f]..first[f+1]-1."""

    embedding: NDArray[np.float32]
    """[N, D], rows of length 1."""
    first: NDArray[np.int64]
    """[F + 1], ascending from 0 to N."""
    adjacent: NDArray[np.int64]
    """Pairs of regions that touch, [A, 2]."""
    contour: NDArray[np.float32]
    """Edge strength between them, [A] in [0, 1]."""
    band: NDArray[np.uint8]
    """Row of the frame, [N], 1 (top) to 4 (bottom)."""
    width: NDArray[np.float32]
    """Columns that it spans, as a share of the frame's, [N]."""
    area: NDArray[np.int64]
    """Pixels, [N]."""

    @classmethod
    def of(cls, frames: Sequence[EmbeddedRegions]) -> "GraphRegions":
        """Put the regions of frames side by side."""
        first = np.cumsum([0, *(len(frame.area) for frame in frames)])
        return cls(
            np.concatenate([frame.embedding for frame in frames]),
            first,
            np.concatenate([frame.adjacent + start for frame, start in zip(frames, first, strict=False)]),
            np.concatenate([frame.contour for frame in frames]),
            np.concatenate([frame.band for frame in frames]),
            np.concatenate([frame.width for frame in frames]),
            np.concatenate([frame.area for frame in frames]),
        )


def region_graph(regions: GraphRegions, settings: PropagationSettings) -> sparse.csr_array:
    """Return the weights of the graph's edges, float32 [N, N], symmetric, 0 on the diagonal.

    Each region is joined to its most similar ones, of whatever frame, by their cosine similarity to the power
    `similarity_power`. Regions that touch are joined by `contour_weight` x exp(-contour / `contour_scale`).
    """
    count = len(regions.embedding)
    similarity, number = NeighbourIndex(regions.embedding, settings).search(regions.embedding, settings.neighbours + 1)
    one = np.repeat(np.arange(count), settings.neighbours + 1)
    other = number.ravel()
    found = (other >= 0) & (other != one)
    one, other, weight = one[found], other[found], similarity.ravel()[found]
    weight = np.clip(weight, 0, 1) ** settings.similarity_power
    alike = sparse.csr_array((weight.astype(np.float32), (one, other)), shape=(count, count))
    touching = sparse.csr_array(
        (_contour_weights(regions.contour, settings), (regions.adjacent[:, 0], regions.adjacent[:, 1])),
        shape=(count, count),
    )
    return (alike.maximum(alike.T) + touching + touching.T).tocsr()


def poisson_learning(
    weights: sparse.csr_array, seeds: NDArray[np.int64], settings: PropagationSettings
) -> NDArray[np.float32]:
    """Return the scores of each class on every region by Poisson learning.

    The scores u of class c solve the Poisson equation (L + LEAK D) u = e - 1/C on the graph, with L its Laplacian and D
    its degrees, a source e at the class's own region and a sink 1/C at each annotated region. All classes are solved
    together by conjugate gradients.

    Parameters
    ----------
    weights
        The graph, float32 [N, N], symmetric.
    seeds
        The annotated region of each class, int64 [C].
    settings
        `tolerance`, the residual at which the solution stands, and `most_iterations`.

    Returns
    -------
    float32 [N, C]
        Divided by their deviation over all regions and classes.

    References
    ----------
    J. Calder et al., Poisson learning: graph based semi-supervised learning at very low label rates, ICML 2020, eq
    (2.2) and (2.3).
    """
    classes = len(seeds)
    degree = np.maximum(weights.sum(axis=1).astype(np.float32), 1e-6)[:, None]
    residual = np.zeros((weights.shape[0], classes), np.float32)
    np.add.at(residual, (seeds, np.arange(classes)), 1)
    np.add.at(residual, seeds, np.float32(-1 / classes))
    scores = np.zeros_like(residual)
    preconditioned = residual / degree
    direction = preconditioned.copy()
    product = (residual * preconditioned).sum(axis=0)
    target = product * settings.tolerance**2
    iterations = 0
    while (product > target).any() and iterations < settings.most_iterations:
        iterations += 1
        image = (1 + LEAK) * degree * direction - weights @ direction
        step = product / np.maximum((direction * image).sum(axis=0), 1e-30)
        scores += step * direction
        residual -= step * image
        preconditioned = residual / degree
        before, product = product, (residual * preconditioned).sum(axis=0)
        direction = preconditioned + (product / np.maximum(before, 1e-30)) * direction
    if (product > target).any():
        excess = float(np.sqrt((product / np.maximum(target, 1e-30)).max()))
        warnings.warn(
            f"the graph's scores do not stand after propagation.most_iterations = {iterations}: their residual is "
            f"{excess:.1f} times propagation.tolerance; allow more",
            stacklevel=2,
        )
    return scores / max(float(scores.std()), 1e-12)


@dataclass(frozen=True)
class Propagation:
    """A solved graph: the regions in it and their scores. It scores its own frames and any new one."""

    frame_ids: tuple[str, ...]
    """The frames in the graph."""
    first: NDArray[np.int64]
    """Where the regions of each of them begin, [F + 1], from 0 to N."""
    embedding: NDArray[np.float32]
    """[N, D], rows of length 1."""
    scores: NDArray[np.float32]
    """[N, C], in deviations of all scores."""
    handicap: NDArray[np.float32]
    """What is taken from each class's scores before they are compared, [C]."""
    settings: PropagationSettings
    """What it was built with."""

    @classmethod
    def solve(
        cls,
        frames: Mapping[str, EmbeddedRegions],
        seeds: Sequence[tuple[str, int]],
        taxonomy: Taxonomy,
        settings: PropagationSettings,
        labels: PseudoLabelSettings,
    ) -> "Propagation":
        """Build the graph of frames and solve it.

        Parameters
        ----------
        frames
            The frames in the graph, by identifier.
        seeds
            For each class the frame and the region, 0..K-1, that hold its annotated pixel.
        taxonomy
            The classes.
        settings
            The graph's and the solver's.
        labels
            `location` and `thin`, for `most_object_area`.
        """
        regions = GraphRegions.of(list(frames.values()))
        place = {frame_id: int(start) for frame_id, start in zip(frames, regions.first, strict=False)}
        numbers = np.array([place[frame_id] + region for frame_id, region in seeds])
        scores = poisson_learning(region_graph(regions, settings), numbers, settings)
        allowed = where_allowed(regions.band, regions.width, taxonomy, labels)
        handicap = class_handicap(scores, allowed, regions.area, taxonomy, settings)
        return cls(tuple(frames), regions.first, regions.embedding, scores, handicap, settings)

    def scores_of(self, frame_id: str, regions: EmbeddedRegions) -> NDArray[np.float32]:
        """Return the scores of a frame's regions, float32 [K, C]; one that is not in the graph is attached to it."""
        number = self._numbers.get(frame_id)
        if number is None:
            return self.attach(regions)
        return self.scores[self.first[number] : self.first[number + 1]]

    def attach(self, frame: EmbeddedRegions) -> NDArray[np.float32]:
        """Return the scores of a new frame's regions, float32 [K, C].

        They are the harmonic extension of the solved scores: each region is joined to the graph and to its neighbours
        in the frame as `region_graph` would, and its scores are the mean of theirs, by the weights of the edges.
        """
        similarity, number = self._index.search(frame.embedding, self.settings.neighbours)
        weight = np.clip(similarity, 0, 1) ** self.settings.similarity_power
        weight = np.where(number >= 0, weight, 0).astype(np.float64)
        count = len(frame.area)
        touching = sparse.csr_array(
            (_contour_weights(frame.contour, self.settings), (frame.adjacent[:, 0], frame.adjacent[:, 1])),
            shape=(count, count),
        )
        joined = (touching + touching.T).astype(np.float64)
        degree = (1 + LEAK) * np.maximum(weight.sum(axis=1) + joined.sum(axis=1), 1e-6)
        outside = np.einsum("kn,knc->kc", weight, self.scores[number])
        solve = factorized((sparse.diags_array(degree) - joined).tocsc())
        return np.stack([solve(column) for column in outside.T], axis=1).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the solved graph as one .npz file, which appears whole or not at all."""
        with whole_file(path) as temporary:
            np.savez(
                temporary,
                frame_ids=np.array(self.frame_ids),
                first=self.first,
                embedding=self.embedding.astype(np.float16),
                scores=self.scores,
                handicap=self.handicap,
            )

    @classmethod
    def load(cls, path: Path, settings: PropagationSettings) -> "Propagation":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(
                tuple(str(frame_id) for frame_id in arrays["frame_ids"]),
                arrays["first"],
                arrays["embedding"].astype(np.float32),
                arrays["scores"],
                arrays["handicap"],
                settings,
            )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {frame_id: number for number, frame_id in enumerate(self.frame_ids)}

    @cached_property
    def _index(self) -> NeighbourIndex:
        return NeighbourIndex(self.embedding, self.settings)


def class_handicap(
    scores: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    area: NDArray[np.int64],
    taxonomy: Taxonomy,
    settings: PropagationSettings,
) -> NDArray[np.float32]:
    """Return what is taken from each class's scores before they are compared.

    Parameters
    ----------
    scores
        float32 [N, C].
    allowed
        Classes that may stand where each region is, bool [N, C].
    area
        Pixels of each region, [N].
    taxonomy
        Tells objects from scenes.
    settings
        `object_margin`, and `most_object_area`: each object class that would win more of the area is taken so much more
        that it wins just that, in turns until all of them stand.

    Returns
    -------
    float32 [C]
        0 for scenes.
    """
    objects = taxonomy.ids_of("object")
    handicap = np.zeros(len(taxonomy.classes), np.float32)
    handicap[objects] = settings.object_margin
    if settings.most_object_area is None:
        return handicap
    candidates = np.where(allowed, scores, -np.inf)
    for class_id in np.tile(objects, SHARE_TURNS):
        others = np.delete(candidates - handicap, class_id, axis=1).max(axis=1)
        contested = allowed[:, class_id] & np.isfinite(others)
        lead = np.where(contested, scores[:, class_id] - others, -np.inf)
        order = np.argsort(-lead, kind="stable")
        fits = np.searchsorted(np.cumsum(area[order]), settings.most_object_area * area.sum(), side="right")
        limit = lead[order[min(fits, len(order) - 1)]]
        handicap[class_id] = max(settings.object_margin, float(limit) + SHARE_STEP)
    return handicap


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep faiss to one thread, for the same bits on any machine; its threads are torch's too, so they come back."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _contour_weights(contour: NDArray[np.float32], settings: PropagationSettings) -> NDArray[np.float32]:
    return (settings.contour_weight * np.exp(-contour / settings.contour_scale)).astype(np.float32)
