"""The whole way on procedural streets: train, log, export, serve, send frames, look at the masks."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serving.client import Client
from serving.files import whole_file
from serving.frames import encode_png
from serving.model import Model
from serving.server import Server
from training.evaluation.figures import marked, overlay, panel, save_png
from training.pipeline import Pipeline
from training.segmentation.prediction import predict
from training.settings import Settings

ZOOM = 2
"""Of the pictures of the annotated frame."""
SERVED_FRAMES = 8
"""Frames that are sent to the server."""


def run_demo(settings: Settings, out: Path, *, resume: bool, warn: Callable[[str], None]) -> dict[str, Any]:
    """Run the pipeline, then serve its model and send evaluation frames through the client.

    Returns
    -------
    dict
        The pipeline's report, with `frames_served`, `mask_agreement` (share of pixels on which the server's masks
        equal those of the model called directly; 1.0 is right), and `pictures` (folder). `<out>/annotated` has four
        more: `draw_annotated`.
    """
    began = time.monotonic()
    pipeline = Pipeline(settings, out, resume=resume, warn=warn)
    report = pipeline.run()
    draw_annotated(pipeline, out / "annotated")
    model = Model.load(Path(report["onnx"]))
    pictures = out / "served"
    frames = pipeline.evaluation_set
    agreement = []
    server = Server(model)
    server.start()
    try:
        with Client(server.address) as client:
            client.wait_ready()
            for frame_id in frames.frame_ids[:SERVED_FRAMES]:
                frame = frames.frame(frame_id)
                answer = client.segment(encode_png(frame))
                agreement.append(float((answer.mask == model.segment(frame)[0]).mean()))
                with whole_file(pictures / f"{frame_id}.png") as temporary:
                    temporary.write_bytes(encode_png(answer.mask))
                masks = {"from the server": answer.mask, "truth": frames.labels(frame_id)}
                save_png(panel(frame, masks, pipeline.taxonomy, frame_id), pictures / f"{frame_id}_overlay.png")
    finally:
        server.stop()
    return report | {
        "seconds": round(time.monotonic() - began, 1),
        "frames_served": len(agreement),
        "mask_agreement": float(np.mean(agreement)),
        "pictures": str(pictures),
    }


def draw_annotated(pipeline: Pipeline, folder: Path) -> None:
    """Draw the frame that has most annotated pixels, as the last round of a finished pipeline sees it.

    `pixels.png` is the frame with its pixels; `pseudo_label.png`, `prediction.png`, `truth.png` are the masks over it.
    Where no annotated frame was trained on, nothing is drawn.
    """
    pixels, last = pipeline.pixels.pixels, pipeline.settings.iterations.rounds - 1
    annotated = Counter(pixel.image for pixel in pixels.values() if pixel.image in pipeline.frame_ids)
    if not annotated:
        return
    frame_id, _ = annotated.most_common(1)[0]
    frame = pipeline.train_set.frame(frame_id)
    prediction = predict(pipeline.network(f"round_{last}"), frame, pipeline.settings.network.input_size)
    masks = {
        "pseudo_label": pipeline.pseudo_labels(last, frame_id),
        "prediction": prediction.class_ids,
        "truth": pipeline.train_set.labels(frame_id),
    }
    places = {name: (pixel.x, pixel.y) for name, pixel in pixels.items() if pixel.image == frame_id}
    save_png(marked(frame, places, pipeline.taxonomy, ZOOM), folder / "pixels.png")
    for name, mask in masks.items():
        picture = overlay(frame, mask, pipeline.taxonomy)
        save_png(picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1), folder / f"{name}.png")
