"""The whole way on procedural streets: train, log, export, serve, send frames, look at the masks."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serving.client import Client
from serving.files import whole_file
from serving.frames import encode_png
from serving.model import Model
from serving.server import Server
from training.evaluation.figures import panel, save_png
from training.pipeline import Pipeline
from training.settings import Settings

SERVED_FRAMES = 8
"""Frames that are sent to the server."""


def run_demo(settings: Settings, out: Path, *, resume: bool, warn: Callable[[str], None]) -> dict[str, Any]:
    """Run the pipeline, then serve its model and send evaluation frames through the client.

    Returns
    -------
    dict
        The pipeline's report, with `frames_served`, `mask_agreement` (share of pixels on which the server's masks
        equal those of the model called directly; 1.0 is right), and `pictures` (folder).
    """
    began = time.monotonic()
    pipeline = Pipeline(settings, out, resume=resume, warn=warn)
    report = pipeline.run()
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
