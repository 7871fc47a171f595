"""What the loop is shown: a small first part to train on, frames to be judged by, and the new frames of the cameras.

CamVid's training frames are divided in three; where CamVid is not at hand, generated streets take their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.files import whole_file
from serving.frames import encode_png
from training.annotations.pixels import load_pixels
from training.datasets import evenly_spaced
from training.datasets.streets import Streets
from training.run_folder import write_yaml
from training.taxonomy import CAMVID

FIRST, GATE = 92, 60
"""CamVid's frames of the first part, and of those that judge a candidate; the cameras show the rest."""
STREETS = 48
"""Generated frames of the first part; the cameras show as many, of another seed."""


@dataclass(frozen=True)
class Scene:
    """Everything that the loop is run on."""

    name: str
    """Of the model."""
    config: Path
    """The configuration that trains and retrains it."""
    frames: Sequence[Path]
    """The new frames, in the order in which the cameras show them."""


def camvid(root: Path, weights: Path, folder: Path, tracking_uri: str) -> Scene:
    """Divide CamVid's training frames: the first part, with the annotated frames; the gate's; the cameras'.

    Parameters
    ----------
    root
        CamVid in SegNet's layout; it is linked to, not copied.
    weights
        ImageNet weights of MobileNetV2.
    folder
        Takes the configuration and the lists of frames.
    tracking_uri
        Of the MLflow server.
    """
    data = folder / "camvid"
    data.mkdir(parents=True, exist_ok=True)
    for split, source in (("train", "train"), ("gate", "train"), ("val", "val")):
        for suffix in ("", "annot"):
            link = data / f"{split}{suffix}"
            if not link.exists():
                link.symlink_to((root / f"{source}{suffix}").resolve())
    lines = (root / "train.txt").read_text().split("\n")
    stems = {Path(line.split()[0]).stem: line for line in lines if line.strip()}
    annotated = set(load_pixels("camvid", CAMVID, "camvid").frame_ids)
    others = [stem for stem in stems if stem not in annotated]
    gate = set(evenly_spaced(others, GATE))
    left = [stem for stem in others if stem not in gate]
    first = [*sorted(annotated), *left[: FIRST - len(annotated)]]
    _write_list(data / "train.txt", [stems[stem] for stem in first])
    _write_list(data / "gate.txt", [stems[stem] for stem in sorted(gate)])
    _write_list(data / "val.txt", (root / "val.txt").read_text().split("\n"))
    settings = {
        "name": "camvid",
        "pixels": "camvid",
        "dataset": {"name": "camvid", "root": str(data)},
        "cam": {"network": "mobilenet_v2", "weights": str(weights.resolve()), "slice_height": 353},
        "network": {"input_size": [360, 480]},
        "training": {"updates": 300},
        "promotion": {"gate_split": "gate", "gate_frames": GATE},
    }
    frames = [data / "train" / f"{stem}.png" for stem in left if stem not in first]
    return Scene("camvid", _configuration(settings, folder, tracking_uri), frames)


def streets(folder: Path, tracking_uri: str) -> Scene:
    """Generate streets: the first part is that of the shipped pixels, the cameras see streets of another seed."""
    frames = []
    unseen = Streets("train", train_frames=STREETS, seed=1)
    for frame_id in unseen.frame_ids:
        frames.append(folder / "streets" / f"{frame_id}.png")
        with whole_file(frames[-1]) as temporary:
            temporary.write_bytes(encode_png(unseen.frame(frame_id)))
    settings = {
        "name": "streets",
        "pixels": "streets",
        "dataset": {"name": "streets", "frames": STREETS},
        "superpixels": {"count": 500},
        "cam": {"weights": "embedded", "slice_height": 161},
        "network": {"input_size": [192, 384], "aspp_rates": [2, 4, 6]},
        "training": {"updates": 100, "crop": [161, 257], "learning_rate": 0.003, "batch_norm": "recalibrated"},
    }
    return Scene("streets", _configuration(settings, folder, tracking_uri), frames)


def _configuration(settings: dict[str, Any], folder: Path, tracking_uri: str) -> Path:
    path = folder / "loop.yaml"
    write_yaml(path, settings | {"iterations": {"rounds": 1}, "tracking": {"uri": tracking_uri}})
    return path


def _write_list(path: Path, lines: Sequence[str]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(line for line in lines if line.strip()) + "\n")
