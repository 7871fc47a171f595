"""Which pixel matters: what each annotated pixel is worth to the propagation, told without any ground truth.

`check_pixels` checks that a pixel file fits its data set; this module judges the pixels it names. It solves the graph
of `pseudo_labels.propagation` over some frames and reads from it how clearly each class wins its regions, and which two
classes compete for the same ones. Other regions of the annotated frame it tries in the annotated one's place; how plain
a region is, `purity` tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from tqdm import tqdm

from training.annotations.pixels import Pixel, PixelFile
from training.annotations.purity import cell_side, region_purity
from training.features.embedding import EmbeddedRegions
from training.pseudo_labels.propagation import GraphRegions, class_handicap, poisson_learning, region_graph
from training.pseudo_labels.refinement import where_allowed
from training.settings import Settings
from training.taxonomy import Taxonomy

TIE = 0.25
"""Difference of two classes' scores, in deviations of all scores, at which their tie has fallen to 1/e."""
INTERCHANGEABLE = 0.4
"""From here on two annotated pixels are called nearly interchangeable."""
UNLIKE = 0.5
"""Cosine below which a region is not what the annotated one is."""
BORDER = 2.0
"""Pixels: an annotated pixel this near to another thing may lie in a region that was not meant."""
GREEDY = 3.0
"""A class that wins so many times the median area of its kind, objects or scenes, and most of it hardly
(`discriminative` below `UNSURE`), claims too much."""
UNSURE = 1 / 3
ALIKE = 0.7
"""Cosine from which a region of the annotated frame is tried in the annotated one's place."""
TRIED = 8
"""Regions that are tried for a class at most, the largest."""
CLEAR = 0.1
"""By this a candidate's `discriminative` must exceed the annotated pixel's."""
SHOWN = 3
"""Candidates of a class at most."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Another pixel of the same frame that would stand for its class better."""

    x: int
    """Column of the pixel deepest inside its region."""
    y: int
    """Its row."""
    area: int
    """Pixels of the region."""
    purity: float
    """As of the annotated pixel."""
    discriminative: float
    """What the class would have with it in the annotated pixel's place."""


@dataclass(frozen=True, kw_only=True)
class CheckedPixel:
    """What is known of one annotated pixel and its region."""

    name: str
    """The class."""
    pixel: Pixel
    """Frame and place."""
    area: int
    """Pixels of its region."""
    border: float | None
    """Pixels to the border of the nearest region that is something else, unlike its own. None where the frame has none.
    """
    purity: float
    """How plain its region is, in [0, 1]: `region_purity`."""
    share: float
    """Area of the frames' other regions that the class wins, over that of all regions."""
    discriminative: float
    """How clearly it wins them, in [0, 1]: the mean over their area of 1 - exp(-lead over the second class), the lead
    in deviations of all scores. 0 where it wins none."""
    candidates: tuple[Candidate, ...]
    """Clearly better pixels of the same frame, the best first."""
    warnings: tuple[str, ...]
    """What a person should look at."""


@dataclass(frozen=True, kw_only=True)
class CheckedPair:
    """Two classes that compete for the same regions."""

    names: tuple[str, str]
    """The classes."""
    interchangeable: float
    """In [0, 1]: the mean over the area that either wins, the annotated regions left out, of exp(-difference of their
    scores / `TIE`), 0 where one of them may not stand. 1 if nothing tells them apart."""
    one_region: bool
    """Whether both pixels lie in the same region."""

    @property
    def warning(self) -> str | None:
        """What a person should look at, or None."""
        if self.one_region:
            return (
                f"{self.names[0]} and {self.names[1]}: both pixels lie in one region, so that nothing tells the two "
                "classes apart; move one of them to a region of its own"
            )
        if self.interchangeable < INTERCHANGEABLE:
            return None
        return (
            f"{self.names[0]} and {self.names[1]} are nearly interchangeable: {100 * self.interchangeable:.1f} % of "
            "what either wins could as well be the other's; choose one of the two pixels elsewhere"
        )


@dataclass(frozen=True)
class AnnotationReport:
    """What each annotated pixel is worth."""

    frames: int
    """Frames over which it was found."""
    pixels: tuple[CheckedPixel, ...]
    """The classes by id."""
    pairs: tuple[CheckedPair, ...]
    """All pairs of classes, the most interchangeable first."""

    @property
    def warnings(self) -> list[str]:
        """All that a person should look at."""
        pairs = [pair.warning for pair in self.pairs if pair.warning is not None]
        return [warning for pixel in self.pixels for warning in pixel.warnings] + pairs


def check_annotations(
    frames: Mapping[str, EmbeddedRegions],
    images: Mapping[str, NDArray[np.uint8]],
    pixels: PixelFile,
    taxonomy: Taxonomy,
    settings: Settings,
) -> AnnotationReport:
    """Judge annotated pixels by the graph of some frames.

    Parameters
    ----------
    frames
        The frames in the graph by identifier, the annotated ones among them.
    images
        The annotated frames themselves, uint8 [H, W, 3], RGB.
    pixels
        The annotated pixels, which lie in their frames.
    taxonomy
        The C classes.
    settings
        Those of the embedding, the propagation and the bands.
    """
    graph = _Graph(frames, taxonomy, settings)
    annotated = [pixels.pixels[name] for name in taxonomy.names]
    seeds = np.array([graph.number(pixel.image, frames[pixel.image].labels[pixel.y, pixel.x]) for pixel in annotated])
    claims = graph.claims(graph.responses(seeds), seeds)
    purity = {name: region_purity(frames[name], images[name], settings.embedding) for name in pixels.frame_ids}
    views = [_View(graph, claims, class_id, pixel, seeds[class_id]) for class_id, pixel in enumerate(annotated)]
    candidates = _candidates(graph, claims, seeds, views, purity)
    checked = []
    for class_id, view in enumerate(views):
        name, pixel = taxonomy.names[class_id], annotated[class_id]
        kin = claims.share[taxonomy.ids_of(taxonomy.classes[class_id].kind)]
        checked.append(
            CheckedPixel(
                name=name,
                pixel=pixel,
                area=int(graph.area[seeds[class_id]]),
                border=view.border(pixel.x, pixel.y),
                purity=float(purity[pixel.image][view.region]),
                share=float(claims.share[class_id]),
                discriminative=float(claims.discriminative[class_id]),
                candidates=candidates[class_id],
                warnings=tuple(_warnings(name, view, pixel, claims, float(np.median(kin)))),
            )
        )
    pairs = [
        CheckedPair(
            names=(taxonomy.names[one], taxonomy.names[other]),
            interchangeable=graph.interchangeable(claims, one, other),
            one_region=bool(seeds[one] == seeds[other]),
        )
        for one in range(len(annotated))
        for other in range(one + 1, len(annotated))
    ]
    pairs.sort(key=lambda pair: -pair.interchangeable)
    return AnnotationReport(len(frames), tuple(checked), tuple(pairs))


@dataclass(frozen=True)
class _Claims:
    """Which class wins which region, for one choice of annotated regions."""

    scores: NDArray[np.float32]
    """[N, C], in deviations of all scores, objects less their handicap."""
    best: NDArray[np.int64]
    """The best class that may stand there, [N]; -1 where there is none, or nothing is known."""
    counted: NDArray[np.bool_]
    """All but the annotated regions, [N]: a class wins its own whatever the pixel is worth."""
    share: NDArray[np.float64]
    """[C]; see `CheckedPixel`."""
    discriminative: NDArray[np.float64]
    """[C]; see `CheckedPixel`."""


class _Graph:
    """The graph of all regions, and what sources in it win."""

    def __init__(self, frames: Mapping[str, EmbeddedRegions], taxonomy: Taxonomy, settings: Settings) -> None:
        self.frames = frames
        self.taxonomy = taxonomy
        self.settings = settings
        regions = GraphRegions.of(list(frames.values()))
        self.first = dict(zip(frames, regions.first.tolist(), strict=False))
        self.area = regions.area
        self.allowed = where_allowed(regions.band, regions.width, taxonomy, settings.pseudo_labels)
        self.weights: sparse.csr_array = region_graph(regions, settings.propagation)

    def number(self, frame_id: str, region: int) -> int:
        """Return the number of a frame's region among all."""
        return self.first[frame_id] + int(region)

    def responses(self, sources: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return each source's potential everywhere, [N, S].

        Any C of them are Poisson learning's scores of classes with those sources, but for a constant of each region
        and a factor: the sinks, which the solution shares among all sources, are the same for each of them.
        """
        return poisson_learning(self.weights, sources, self.settings.propagation)

    def claims(self, responses: NDArray[np.float32], seeds: NDArray[np.int64]) -> _Claims:
        """Return what classes win with these annotated regions, of responses [N, C] to them."""
        scores = responses - responses.mean(axis=1, keepdims=True)
        scores = scores / max(float(scores.std()), 1e-12)
        known = self.allowed.any(axis=1) & scores.any(axis=1)
        scores = scores - class_handicap(scores, self.allowed, self.area, self.taxonomy, self.settings.propagation)
        candidates = np.where(self.allowed, scores, -np.inf)
        best = np.where(known, candidates.argmax(axis=1), -1)
        second, first = np.partition(candidates, -2, axis=1)[:, -2:].T
        lead = np.subtract(first, second, out=np.zeros_like(first), where=known)
        counted = np.ones(len(self.area), bool)
        counted[seeds] = False
        classes = scores.shape[1]
        won = counted & (best >= 0)
        area = np.bincount(best[won], self.area[won], minlength=classes)
        sure = np.bincount(best[won], (self.area * (1 - np.exp(-lead)))[won], minlength=classes)
        share = area / self.area.sum()
        return _Claims(scores, best, counted, share, sure / np.maximum(area, 1))

    def interchangeable(self, claims: _Claims, one: int, other: int) -> float:
        """Return how nearly two classes could be exchanged; see `CheckedPair`."""
        won = claims.counted & ((claims.best == one) | (claims.best == other))
        both = won & self.allowed[:, one] & self.allowed[:, other]
        equal = np.exp(-np.abs(claims.scores[both, one] - claims.scores[both, other]) / TIE)
        return float((self.area[both] * equal).sum() / max(self.area[won].sum(), 1))


class _View:
    """One annotated frame as one of its classes sees it."""

    def __init__(self, graph: _Graph, claims: _Claims, class_id: int, pixel: Pixel, seed: int) -> None:
        self.frame_id = pixel.image
        self.frame = graph.frames[pixel.image]
        self.class_id = class_id
        self.first = graph.first[pixel.image]
        self.region = int(seed) - self.first
        self.allowed = bool(graph.allowed[seed, class_id])
        here = slice(self.first, self.first + len(self.frame.area))
        self.similarity = self.frame.embedding @ self.frame.embedding[self.region]
        foreign = self.similarity < UNLIKE
        foreign[self.region] = False
        self.distance = ndimage.distance_transform_edt(~foreign[self.frame.labels]) if foreign.any() else None
        own = (claims.best[here] == class_id) & (self.similarity >= ALIKE)
        own[self.region] = False
        self.smallest = cell_side(len(self.frame.labels), graph.settings.embedding) ** 2 / 2
        """Pixels of a region that describes itself."""
        own &= self.frame.area >= self.smallest
        largest = np.argsort(-np.where(own, self.frame.area, 0), kind="stable")[:TRIED]
        self.tried: Sequence[int] = [int(region) for region in largest if own[region]]
        """Regions that may be better than the annotated one."""

    def border(self, x: int, y: int) -> float | None:
        """Return the distance of a pixel's centre to the border of what is something else, pixels."""
        return None if self.distance is None else float(self.distance[y, x]) - 0.5

    def deepest(self, region: int) -> tuple[int, int]:
        """Return the (x, y) farthest from a region's border and from the frame's."""
        depth = ndimage.distance_transform_edt(np.pad(self.frame.labels == region, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        return int(x), int(y)


def _candidates(
    graph: _Graph,
    claims: _Claims,
    seeds: NDArray[np.int64],
    views: Sequence[_View],
    purity: Mapping[str, NDArray[np.float64]],
) -> list[tuple[Candidate, ...]]:
    """Try other regions in each annotated one's place; return those that are clearly better, by class."""
    tried = [view.first + region for view in views for region in view.tried]
    sources = np.unique(np.concatenate([seeds, np.array(tried, np.int64)]))
    responses = graph.responses(sources) if tried else np.empty((0, 0), np.float32)
    found = []
    for class_id, view in enumerate(tqdm(views, desc="candidates", unit="class", delay=2, disable=None)):
        better = []
        for region in view.tried:
            changed = seeds.copy()
            changed[class_id] = view.first + region
            value = graph.claims(responses[:, np.searchsorted(sources, changed)], changed).discriminative[class_id]
            x, y = view.deepest(region)
            border = view.border(x, y)
            if value >= claims.discriminative[class_id] + CLEAR and (border is None or border > BORDER):
                better.append(
                    Candidate(
                        x=x,
                        y=y,
                        area=int(view.frame.area[region]),
                        purity=float(purity[view.frame_id][region]),
                        discriminative=float(value),
                    )
                )
        better.sort(key=lambda candidate: -candidate.discriminative)
        found.append(tuple(better[:SHOWN]))
    return found


def _warnings(name: str, view: _View, pixel: Pixel, claims: _Claims, median: float) -> list[str]:
    where = f"{name}, x={pixel.x}, y={pixel.y} of {pixel.image}"
    found = []
    area = int(view.frame.area[view.region])
    if area < view.smallest:
        found.append(
            f"{where}: its region has {area} pixels, less than half a cell of the network's last layers "
            f"({view.smallest:.0f}), so that what surrounds it describes it; choose a larger part of the class"
        )
    border = view.border(pixel.x, pixel.y)
    if border is not None and border <= BORDER:
        found.append(
            f"{where}: {border:.1f} pixels from the border of something else, so that its region may not be the one "
            "that was meant; choose a pixel further inside"
        )
    if not view.allowed:
        band, width = int(view.frame.band[view.region]), float(view.frame.width[view.region])
        found.append(
            f"{where}: its region is in row {band} of 4 and spans {width:.3f} of the frame's width, where the class "
            "may not be, so that it is given another label itself; choose a pixel where the class may be"
        )
    share, sure = float(claims.share[view.class_id]), float(claims.discriminative[view.class_id])
    if share == 0:
        found.append(f"{where}: nothing in the other frames is taken for it; choose a more typical part of the class")
    elif share > GREEDY * median and sure < UNSURE:
        found.append(
            f"{where}: claims too much, {100 * share:.1f} % of all area, over {GREEDY:.0f} times what is usual for its "
            f"kind, and hardly ({100 * sure:.1f} % surely); choose a more distinct part of the class"
        )
    return found
