"""Export parity over networks, precisions and input sizes: what `onepixel bench export` measures.

A network that has not been trained ties all classes, and would say nothing of parity. So each one is first fitted a
little to generated streets, until it tells some classes apart.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from serving.metadata import DatasetDescription, ModelMetadata
from serving.model import Model
from serving.settings import EngineSettings
from training.datasets.streets import Streets
from training.export.export import NEAR_TIE, OPSET, describe_classes, differences, export_onnx
from training.export.precisions import Precision, try_precision
from training.segmentation.batches import Sample
from training.segmentation.networks import DeepLab, build_network
from training.segmentation.prediction import Segmenter
from training.segmentation.trainer import train
from training.settings.learning import NetworkName, NetworkSettings, TrainerSettings
from training.settings.method import CamSettings

LEARNING_RATES: dict[NetworkName, float] = {
    "deeplab_mobilenet_v2": 0.003,
    "deeplab_mobilenet_v2_skip": 0.003,
    "deeplab_vgg16_largefov": 0.0003,
    "deeplab_vgg16_aspp": 0.0003,
    "deeplab_resnet101": 0.0003,
}
"""Of each network; the large ones come to say one class alone at more."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
SIZES = ((96, 192), (97, 131), (65, 190))
"""Height and width; the odd ones are no multiples of any stride."""
FRAMES, UPDATES, TURNS = 8, 60, 5
SEEN = 0.001
"""Share of the pixels from which on a class counts as told apart."""
BATCHES = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """One file of the table."""

    network: str
    precision: str
    size: tuple[int, int]
    exporter: str
    """Which of torch's wrote it; of fp16 and int8, what they were made from."""
    classes: int
    """Classes that the network tells apart on the frames; with one alone the row would say nothing."""
    agreement: float
    """Share of pixels as the network answers."""
    widest: float
    """Where they differ, how far apart the two most probable classes are at most."""
    near_ties_only: bool
    miou_difference: float | None
    """Of fp16 and int8: class mean IoU less fp32's, with the true labels of the frames."""
    batches_equal: bool
    """Whether a frame's mask is the same in batches of 1, 2 and 3."""
    opset: int
    mib: float
    """Size of the file."""
    time_ratio: float
    """Of an inference, to the fp32 file's; the median of pairs."""
    refused: str | None
    """Why its gate does not let it pass; None where it does."""


def export_table(networks: Sequence[NetworkName]) -> list[Parity]:
    """Export each network in each precision and size, and compare; a row for each.

    Parameters
    ----------
    networks
        Names out of `LEARNING_RATES`.
    """
    rows = []
    for name in networks:
        described = NetworkSettings(name=name, aspp_rates=_rates(name))
        streets = Streets("train", size=SIZES[0], train_frames=FRAMES, seed=1)
        network = build_network(described, CamSettings(), len(streets.taxonomy.classes), seed=0, pretrained=False)
        network = _fitted(network, streets, LEARNING_RATES[name])
        for size in SIZES:
            rows += _rows(name, network, size)
    return rows


def as_markdown(rows: Sequence[Parity]) -> list[str]:
    """Lay the table out."""
    cells = [_cells(row) for row in rows]
    lines = [list(cells[0]), ["---", "---", "---", "---", *["---:"] * (len(cells[0]) - 5), "---"]]
    return [f"| {' | '.join(line)} |" for line in (*lines, *(list(one.values()) for one in cells))]


def as_json(rows: Sequence[Parity]) -> dict[str, Any]:
    """Return the rows as the command prints them."""
    return {"rows": [asdict(row) for row in rows]}


def _cells(row: Parity) -> dict[str, str]:
    return {
        "network": row.network.removeprefix("deeplab_"),
        "precision": row.precision,
        "size": f"{row.size[0]} x {row.size[1]}",
        "exporter": row.exporter,
        "classes": str(row.classes),
        "as the network, %": f"{100 * row.agreement:.3f}",
        "widest": f"{row.widest:.1g}",
        "mIoU": "-" if row.miou_difference is None else f"{100 * row.miou_difference:+.2f}",
        "batches": "equal" if row.batches_equal else "differ",
        "MiB": f"{row.mib:.1f}",
        "time": f"{row.time_ratio:.2f}",
        "gate": "refused" if row.refused else "passed",
    }


def _rates(name: str) -> tuple[int, ...]:
    return (4,) if name == "deeplab_vgg16_largefov" else (2, 4)  # the published ones are wider than small inputs


def _fitted(network: DeepLab, streets: Streets, rate: float) -> DeepLab:
    """Train a little, so that the classes are told apart."""
    settings = TrainerSettings(updates=UPDATES, batch=2, crop=(65, 97), learning_rate=rate, batch_norm="recalibrated")

    def load(frame_id: str) -> Sample:
        return Sample(streets.frame(frame_id), streets.labels(frame_id))

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.safetensors"
        fit = partial(train, labels=streets.labels, seed=0, round_number=0, checkpoint=checkpoint, resume=False)
        fit(network, load, streets.frame_ids, settings)
    return network.eval()


def _rows(name: str, network: DeepLab, size: tuple[int, int]) -> list[Parity]:
    streets = Streets("train", size=size, train_frames=FRAMES, seed=2)
    frames = [streets.frame(frame_id) for frame_id in streets.frame_ids]
    segmenter = Segmenter(network, size)
    metadata = ModelMetadata(
        classes=describe_classes(streets.taxonomy),
        input_size=size,
        mlflow_run_id="none",
        dataset=DatasetDescription(name="streets", digest=streets.digest()),
        pixels_digest="0" * 64,
        metrics={},
        precision="fp32",
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = export_onnx(network, metadata, Path(folder) / "fp32.onnx", frames)
        reference = Model.load(source.path, settings=EngineSettings(threads=1))
        masks = np.stack([reference.segment(frame)[0] for frame in frames])
        classes = int((np.bincount(masks.ravel()) >= SEEN * masks.size).sum())
        for precision in PRECISIONS:
            path, difference, refused = source.path, None, None
            if precision != "fp32":
                path = Path(folder) / f"{precision}.onnx"
                converted, refused = try_precision(source.path, precision, path, streets, streets.frame_ids)
                difference = converted.miou_difference
            model = Model.load(path, settings=EngineSettings(threads=1))
            different, widest = differences(model, segmenter, frames)
            rows.append(
                Parity(
                    network=name,
                    precision=precision,
                    size=size,
                    exporter=source.exporter,
                    classes=classes,
                    agreement=1 - different / (len(frames) * size[0] * size[1]),
                    widest=widest,
                    near_ties_only=widest < NEAR_TIE,
                    miou_difference=difference,
                    batches_equal=_batches_equal(model, frames),
                    opset=next(one.version for one in onnx.load(path).opset_import if one.domain == ""),
                    mib=path.stat().st_size / 2**20,
                    time_ratio=_time_ratio(model, reference, frames[0]),
                    refused=refused,
                )
            )
            assert rows[-1].opset == OPSET
    return rows


def _batches_equal(model: Model, frames: Sequence[np.ndarray]) -> bool:
    alone = [model.infer(frame[None])[0][0] for frame in frames[: max(BATCHES)]]
    return all(
        np.array_equal(together, one)
        for batch in BATCHES
        for together, one in zip(model.infer(np.stack(frames[:batch]))[0], alone, strict=False)
    )


def _time_ratio(model: Model, reference: Model, frame: np.ndarray) -> float:
    ratios = []
    for _ in range(TURNS):
        times = []
        for one in (model, reference):
            began = time.perf_counter()
            one.infer(frame[None])
            times.append(time.perf_counter() - began)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)
