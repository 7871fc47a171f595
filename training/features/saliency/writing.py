"""Writing a forest that scikit-learn fitted as the ONNX file that `forest` reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from serving.files import whole_file
from training.features.saliency.forest import INPUT, KEY, OUTPUT, ForestMetadata

DOMAIN = "ai.onnx.ml"
DOMAIN_OPSET = 5
"""The first with TreeEnsemble; ONNX Runtime has it since 1.20."""
IR_VERSION = 10

Tree = Any
"""scikit-learn's `sklearn.tree._tree.Tree`, which this module only looks at."""


def forest_model(trees: Sequence[Tree], metadata: ForestMetadata) -> onnx.ModelProto:
    """Return a forest as an ONNX model whose answer is the mean over its trees.

    Parameters
    ----------
    trees
        scikit-learn's trees (`estimator.tree_`), fitted on one target.
    metadata
        What the file shall say of itself.
    """
    parts = [_tree_arrays(tree) for tree in trees]
    inner = np.cumsum([0] + [len(part["splits"]) for part in parts])
    leaves = np.cumsum([0] + [len(part["weights"]) for part in parts])
    for part, first_inner, first_leaf in zip(parts, inner, leaves, strict=False):
        for side in ("true", "false"):
            part[f"{side}_ids"] = part[f"{side}_ids"] + np.where(part[f"{side}_leaf"], first_leaf, first_inner)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    node = helper.make_node(
        "TreeEnsemble",
        [INPUT],
        [OUTPUT],
        domain=DOMAIN,
        n_targets=1,
        aggregate_function=1,  # sum
        post_transform=0,  # none
        tree_roots=inner[:-1].tolist(),
        nodes_featureids=joined["features"].tolist(),
        nodes_splits=numpy_helper.from_array(joined["splits"]),
        nodes_modes=numpy_helper.from_array(np.zeros(len(joined["splits"]), np.uint8)),  # at most
        nodes_truenodeids=joined["true_ids"].tolist(),
        nodes_trueleafs=joined["true_leaf"].tolist(),
        nodes_falsenodeids=joined["false_ids"].tolist(),
        nodes_falseleafs=joined["false_leaf"].tolist(),
        leaf_targetids=[0] * int(leaves[-1]),
        leaf_weights=numpy_helper.from_array((joined["weights"] / len(trees)).astype(np.float32)),
    )
    width = len(metadata.descriptors)
    graph = helper.make_graph(
        [node],
        "saliency",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["regions", width])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["regions", 1])],
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, DOMAIN_OPSET)],
    )
    helper.set_model_props(model, {KEY: metadata.model_dump_json()})
    return model


def write_forest(model: onnx.ModelProto, path: Path) -> None:
    """Write a forest, which appears whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _tree_arrays(tree: Tree) -> dict[str, NDArray]:
    """Return a tree's inner nodes and leaves, each numbered from 0 in the tree's own order.

    Thresholds are rounded down to single precision, which decides every number of single precision as they do.
    """
    is_leaf = tree.children_left < 0
    if is_leaf[0]:  # a tree without a question; the operator needs one
        nothing, everything = np.zeros(1, np.int64), np.ones(1, np.int64)
        return {
            "features": nothing,
            "splits": nothing.astype(np.float32),
            "true_ids": nothing,
            "true_leaf": everything,
            "false_ids": nothing,
            "false_leaf": everything,
            "weights": tree.value[:, 0, 0],
        }
    number = np.where(is_leaf, np.cumsum(is_leaf), np.cumsum(~is_leaf)) - 1
    threshold = tree.threshold[~is_leaf]
    splits = threshold.astype(np.float32)
    splits = np.where(splits > threshold, np.nextafter(splits, np.float32(-np.inf)), splits)
    left, right = tree.children_left[~is_leaf], tree.children_right[~is_leaf]
    return {
        "features": tree.feature[~is_leaf],
        "splits": splits,
        "true_ids": number[left],
        "true_leaf": is_leaf[left].astype(np.int64),
        "false_ids": number[right],
        "false_leaf": is_leaf[right].astype(np.int64),
        "weights": tree.value[is_leaf, 0, 0],
    }
