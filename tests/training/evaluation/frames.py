"""A folder of frames that a real model of no cost segments: the class of a pixel is its strongest channel."""

import json

import numpy as np
import onnx
from PIL import Image

from serving.benchmarks.tiny_model import tiny_metadata, tiny_model
from serving.metadata import ClassDescription
from training.taxonomy import CAMVID

SIZE = (8, 12)
SKY, BUILDING, POLE = range(3)


def save(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(picture, np.uint8)).save(path)
    return path


def write_frames(root, labels, split="val"):
    """Write a split of the data set `folder`: frames frame0, frame1, ... on which the model is right everywhere."""
    for number, values in enumerate(labels):
        truth = np.broadcast_to(np.array(values, np.uint8), SIZE)
        channels = np.where(truth == 255, 0, truth)
        save(204 * np.eye(3, dtype=np.uint8)[channels], root / split / "images" / f"frame{number}.png")
        save(truth, root / split / "labels" / f"frame{number}.png")


def write_configuration(path, root, **dataset):
    """Write the configuration of that data set, with CamVid's classes; JSON is YAML."""
    tree = {
        "name": "mine",
        "pixels": "camvid",
        "cam": {"weights": "embedded"},
        "dataset": {"name": "folder", "root": str(root), "taxonomy": "camvid", **dataset},
        "network": {"input_size": [64, 96]},
    }
    path.write_text(json.dumps(tree))
    return str(path)


def write_model(path, names=CAMVID.names):
    """Write the model with classes of these names, the first three of which it finds."""
    model = onnx.load_model_from_string(tiny_model(*SIZE))
    classes = tuple(
        ClassDescription(id=number, name=name, category=name, colour=(number, 0, 0))
        for number, name in enumerate(names)
    )
    metadata = tiny_metadata(*SIZE).model_copy(update={"classes": classes})
    onnx.helper.set_model_props(model, metadata.to_properties())
    onnx.save_model(model, path)
    return path
