"""A folder of model versions that change while a server follows it, and which masks each version should give."""

import shutil
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from serving.benchmarks.engine import BareEngine
from serving.benchmarks.load import MASK, Answer, Run
from serving.client import Client

POLL_SECONDS = 0.1
"""How often the server looks at its folder."""
SWAPPING = 60.0
"""Seconds that a new version may take to answer."""


class VersionFolder:
    """A folder `<name>/<version>/model.onnx` whose versions take turns between two models.

    Parameters
    ----------
    folder
        Where it is made.
    models
        Two files; odd versions are the first, even ones the second.
    """

    def __init__(self, folder: Path, models: tuple[Path, Path]) -> None:
        self.path = folder
        self.version = 0
        self._models = models
        self.add()

    def add(self) -> None:
        """Put the next version into the folder, whole at once."""
        unfinished = self.path / "unfinished"
        unfinished.mkdir(parents=True)
        shutil.copyfile(self._models[self.version % 2], unfinished / "model.onnx")
        self.version += 1
        (self.path / "swapped").mkdir(exist_ok=True)
        unfinished.rename(self.path / "swapped" / str(self.version))

    def remove_older(self) -> None:
        """Remove the version before the newest."""
        shutil.rmtree(self.path / "swapped" / str(self.version - 1))

    def swap(self, client: Client) -> None:
        """Add a version, wait until it answers, and remove the one before.

        Raises
        ------
        RuntimeError
            If it does not answer in time.
        """
        self.add()
        deadline = time.monotonic() + SWAPPING
        while client.model_info().version != str(self.version):
            if time.monotonic() > deadline:
                raise RuntimeError(f"version {self.version} is not served after {SWAPPING:g} s")
            time.sleep(POLL_SECONDS / 4)
        self.remove_older()


class Expectation:
    """Which mask each version should give for each image.

    Parameters
    ----------
    models
        The two files of a `VersionFolder`.
    images
        The JPEGs that are sent.
    """

    def __init__(self, models: tuple[Path, Path], images: Sequence[bytes]) -> None:
        engines = [BareEngine(model) for model in models]
        self._checksums = [[zlib.crc32(engine.segment(image)) for image in images] for engine in engines]

    def mixed(self, run: Run) -> int:
        """Count the masks that are not of the version that they name."""
        return sum(not self._fits(answer) for answer in run.answers if answer.outcome == MASK)

    def _fits(self, answer: Answer) -> bool:
        checksums = self._checksums[(int(answer.version) - 1) % 2]
        return answer.checksum == checksums[answer.image(len(checksums))]


def with_other_masks(model: Path, out: Path) -> None:
    """Write a copy of a model whose class ids are each the next one, the last the first; needs the package `onnx`."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    from serving.metadata import ModelMetadata

    copy = onnx.load(model)
    properties = {entry.key: entry.value for entry in copy.metadata_props}
    classes = len(ModelMetadata.from_properties(properties, str(model)).classes)
    for node in copy.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "class_ids":
                    names[index] = "class_ids_before"
    table = np.roll(np.arange(classes, dtype=np.uint8), -1)
    copy.graph.initializer.append(numpy_helper.from_array(table, "next_class"))
    copy.graph.node.append(helper.make_node("Cast", ["class_ids_before"], ["class_indices"], to=onnx.TensorProto.INT32))
    copy.graph.node.append(helper.make_node("Gather", ["next_class", "class_indices"], ["class_ids"]))
    onnx.save(copy, out)
