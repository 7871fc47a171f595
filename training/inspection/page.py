"""A frame's intermediates as one HTML file that is opened from disk: no server, no network, no other file.

The style sheet and the scripts lie in `assets/` and are put into `assets/page.html` with the data; the page's own
policy forbids it to load anything.
"""

import base64
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from serving.files import whole_file
from serving.frames import encode_jpeg, encode_png
from training.evaluation.score_histograms import score_histograms
from training.features.saliency import CROPPINGS
from training.features.superpixels import centroids, pixel_membership
from training.inspection.collect import Intermediates
from training.inspection.packing import pack, quantise, quantise_columns, upper_triangle

SCRIPTS = ("data.js", "stage.js", "layers.js", "panel.js", "main.js")
"""In the order in which they run, as one script."""
BINS = 48
"""Of a class's histogram of scores."""
QUALITY = 95
"""JPEG quality of the frame, which is only looked at: every number on the page comes from the pixels themselves."""


def write_page(intermediates: Intermediates, path: Path) -> None:
    """Write the page, which appears whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(render_page(intermediates), "utf-8")


def render_page(intermediates: Intermediates) -> str:
    """Return the whole HTML document."""
    labelling = intermediates.labelling
    figure = score_histograms(
        labelling.scores_before,
        labelling.scores_after,
        labelling.allowed,
        labelling.thresholds,
        intermediates.taxonomy,
        unit=labelling.unit,
    )
    parts = {
        "title": html.escape(f"{intermediates.frame_id} · {intermediates.dataset}"),
        "style": _read("page.css"),
        "script": "\n".join(_read(name) for name in SCRIPTS),
        "meta": _json(describe(intermediates)),
        "arrays": "\n".join(_array(name, array) for name, array in arrays(intermediates).items()),
        "frame": _data_uri("image/jpeg", encode_jpeg(intermediates.frame, QUALITY)),
        "figure": _data_uri("image/png", encode_png(figure)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def describe(intermediates: Intermediates) -> dict[str, Any]:
    """Return what is no array: names, colours, sizes, thresholds."""
    height, width = intermediates.features.labels.shape
    labelling = intermediates.labelling
    return {
        "frame": intermediates.frame_id,
        "dataset": intermediates.dataset,
        "preset": intermediates.preset,
        "frames": intermediates.frames,
        "unit": labelling.unit,
        "height": height,
        "width": width,
        "count": len(intermediates.features.area),
        "classes": [
            {
                "name": info.name,
                "colour": info.colour,
                "kind": info.kind,
                "bands": info.bands,
                "threshold": float(threshold),
            }
            for info, threshold in zip(intermediates.taxonomy.classes, labelling.thresholds, strict=True)
        ],
        "networkClasses": intermediates.network_classes,
        "views": ["whole frame" if tiles == (1, 1) else f"{tiles[0]} × {tiles[1]} tiles" for tiles in CROPPINGS],
        "annotated": [{"class": pixel.class_id, "x": pixel.x, "y": pixel.y} for pixel in intermediates.annotated],
        "bins": BINS,
    }


def arrays(intermediates: Intermediates) -> dict[str, NDArray]:
    """Return the arrays of the page by the names that its scripts know; `truth` only where there is one."""
    features, labelling = intermediates.features, intermediates.labelling
    count = len(features.area)
    responses, most = quantise_columns(features.semantic)
    counts, edges = _histograms(intermediates)
    content: dict[str, NDArray] = {
        "superpixels": features.labels.astype(np.uint16),
        "edgeMap": quantise(intermediates.edges),
        "saliency": quantise(intermediates.saliency),
        "meanColour": (pixel_membership(features.labels, count) @ intermediates.frame.reshape(-1, 3)).astype(np.uint8),
        "centre": centroids(features.labels, count).astype(np.float32),
        "band": features.band,
        "area": features.area.astype(np.uint32),
        "allowed": intermediates.allowed.astype(np.uint8),
        "classMaps": intermediates.class_maps.astype(np.float32),
        "before": labelling.frame.scores_before.astype(np.float32),
        "after": labelling.frame.scores_after.astype(np.float32),
        "label": labelling.frame.labels,
        "responses": responses,
        "mostResponse": most,
        "semantic": upper_triangle(intermediates.semantic_similarity),
        "colour": upper_triangle(intermediates.colour_similarity),
        "texture": upper_triangle(intermediates.texture_similarity),
        "context": upper_triangle(intermediates.context),
        "edges": upper_triangle(features.edge_similarity),
        "histograms": counts,
        "histogramRange": edges,
        "colourMap": np.round(colormaps["viridis"](np.arange(256))[:, :3] * 255).astype(np.uint8),
    }
    if intermediates.truth is not None:
        content["truth"] = intermediates.truth
    return content


def _histograms(intermediates: Intermediates) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    # Counts [2, C, BINS], before and after, over the superpixels where a class may stand, and each class's range
    # [C, 2], which holds its threshold.
    labelling = intermediates.labelling
    both = np.stack([labelling.scores_before, labelling.scores_after])
    counts = np.zeros((2, len(labelling.thresholds), BINS), np.uint32)
    ranges = np.zeros((len(labelling.thresholds), 2), np.float32)
    for class_id, threshold in enumerate(labelling.thresholds):
        seen = both[:, labelling.allowed[:, class_id], class_id]
        ranges[class_id] = seen.min(initial=threshold), seen.max(initial=threshold)
        for which, scores in enumerate(seen):
            counts[which, class_id] = np.histogram(scores, BINS, tuple(ranges[class_id]))[0]
    return counts, ranges


def _read(name: str) -> str:
    return (files("training.inspection") / "assets" / name).read_text("utf-8")


def _json(content: dict[str, Any]) -> str:
    # `<` is escaped so that no name can end the element it stands in.
    return json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _array(name: str, array: NDArray) -> str:
    return f'<script type="text/plain" id="array-{name}" data-type="{array.dtype.name}">{pack(array)}</script>'


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
