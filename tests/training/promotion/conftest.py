"""A registry in the tests' database, and small files of the whole contract."""

import numpy as np
import onnx
import pytest

from serving.benchmarks.tiny_model import tiny_metadata, tiny_model
from training.promotion.promotion import Promotion

SIZE = (24, 32)


@pytest.fixture
def promotion(database, request):
    """A registered model of this test alone."""
    return Promotion(database, request.node.name[:80].replace("[", "-").replace("]", ""))


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture
def tiny_file(tmp_path):
    """Write the tiny model, changed by `change(model)`, as a file; each number is a file of its own."""

    def write(number=0, change=lambda model: None):
        model = onnx.load_from_string(tiny_model(*SIZE))
        model.producer_version = str(number)
        change(model)
        path = tmp_path / f"tiny-{number}.onnx"
        onnx.save_model(model, path)
        return path

    return write


def describe(model, **changes):
    """Give a file other metadata."""
    del model.metadata_props[:]
    metadata = tiny_metadata(*SIZE).model_copy(update=changes)
    onnx.helper.set_model_props(model, metadata.to_properties())
