"""A data set of seconds that the tests of whole commands share: a few small streets with an embedded classifier."""

import numpy as np
import pytest
import yaml
from scipy import ndimage

from tests.training.mlflow_server import MlflowServer
from training.datasets.streets import Streets

SIZE = (64, 128)
FRAMES = 8


def deepest_pixels(streets):
    """Pixels that a careful person would choose, deep inside a large region, by class name."""
    deepest = {}
    for frame_id in streets.frame_ids:
        labels = streets.labels(frame_id)
        for class_id in np.unique(labels[labels != 255]):
            depth = ndimage.distance_transform_edt(np.pad(labels == class_id, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            name = streets.taxonomy.names[class_id]
            if depth[y, x] > deepest.get(name, (0,))[0]:
                deepest[name] = (depth[y, x], {"image": frame_id, "x": int(x), "y": int(y)})
    return {name: at for name, (_, at) in deepest.items()}


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """The tracking URI of a database for all tests: to make one takes MLflow five seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def tiny_streets(tmp_path_factory, database):
    """Settings of a run of seconds, as overrides of the configuration `streets`."""
    pixels = tmp_path_factory.mktemp("pixels") / "pixels.yaml"
    streets = Streets("train", size=SIZE, train_frames=FRAMES)
    pixels.write_text(yaml.safe_dump({"dataset": "streets", "pixels": deepest_pixels(streets)}))
    return [
        f"pixels={pixels}",
        f"tracking.uri={database}",
        "workers=1",
        f"dataset.size={list(SIZE)}",
        f"dataset.frames={FRAMES}",
        "dataset.limit=4",
        "superpixels.count=60",
        "superpixels.minimum=10",
        "cam.slice_height=65",
        "embedding.passes=[{height: 65, layers: [features.6, features.17], weights: [1, 1]}]",
        f"network.input_size={list(SIZE)}",
        "training.updates=6",
        "training.checkpoint_every=2",
        "training.batch=2",
        "training.crop=[65, 97]",
    ]


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()
