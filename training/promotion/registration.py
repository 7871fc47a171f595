"""From a run's folder, or a file, to a version of the registered model."""

import shutil
import tempfile
from pathlib import Path

from serving.errors import InputError
from serving.registry import RegisteredVersion
from training.configuration import read_settings
from training.datasets.base import Frame
from training.datasets.streets import Streets
from training.promotion.registry import Registry


def register_run(registry: Registry, run: Path) -> RegisteredVersion:
    """Register the model that a run's folder ended with, and what a retraining starts from.

    Raises
    ------
    InputError
        If the folder holds no complete run, or as of `Registry.register`.
    """
    settings_file = run / "settings.yaml"
    if not settings_file.is_file():
        raise InputError(f"{run}: holds no run; give a folder that `onepixel train` made, or an ONNX file")
    settings = read_settings(settings_file)
    model = run / "model_store" / settings.name / "1" / "model.onnx"
    network = run / f"round_{settings.iterations.rounds - 1}" / "network" / "network.safetensors"
    for path in (model, network):
        if not path.is_file():
            raise InputError(f"{run}: {path.relative_to(run)} is missing; go on with `onepixel train --resume`")
    with tempfile.TemporaryDirectory() as folder:
        training = Path(folder)
        for source in (network, settings_file, run / "pixels.yaml"):
            shutil.copyfile(source, training / source.name)
        return registry.register(model, golden_frame=golden_frame(), training=training)


def register_file(registry: Registry, path: Path) -> RegisteredVersion:
    """Register an exported file by itself; as of `Registry.register`."""
    return registry.register(path, golden_frame=golden_frame())


def golden_frame() -> Frame:
    """Return the frame for which every version keeps its answer: a generated street, so that no data leaves."""
    streets = Streets("val", size=(384, 768), train_frames=2)
    return streets.frame(streets.frame_ids[0])
