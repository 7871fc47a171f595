"""A model that costs almost nothing, so that what is measured around it is the server; tests use it too.

It keeps the whole contract of an exported file. The class of a pixel is the strongest of its red, green and blue.
"""

import numpy as np

from serving.metadata import ClassDescription, DatasetDescription, ModelMetadata

CLASSES = (
    ClassDescription(id=0, name="red", category="warm", colour=(200, 0, 0)),
    ClassDescription(id=1, name="green", category="cold", colour=(0, 200, 0)),
    ClassDescription(id=2, name="blue", category="cold", colour=(0, 0, 200)),
)


def tiny_metadata(height: int, width: int) -> ModelMetadata:
    """Describe the tiny model of an input size in pixels."""
    return ModelMetadata(
        classes=CLASSES,
        input_size=(height, width),
        mlflow_run_id="none",
        dataset=DatasetDescription(name="none", digest="0" * 64),
        pixels_digest="0" * 64,
        metrics={"val/miou_class": 1.0},
        precision="fp32",
    )


def tiny_model(height: int, width: int) -> bytes:
    """Build the model's ONNX file; needs the package `onnx`.

    Parameters
    ----------
    height, width
        The input size, pixels.

    Returns
    -------
    The file's bytes. `class_ids` is the index of a pixel's largest channel (the first among equals), `confidence`
    that channel's own value.
    """
    import onnx
    from onnx import TensorProto, helper

    batch: list[str | int | None] = ["N", height, width]
    graph = helper.make_graph(
        [
            # ArgMax has no uint8 kernel on a CPU, and float's is slow: max and comparisons are exact and cheap.
            helper.make_node("Split", ["frames"], ["red4", "green4", "blue4"], axis=3, num_outputs=3),
            helper.make_node("Squeeze", ["red4", "axis"], ["red"]),
            helper.make_node("Squeeze", ["green4", "axis"], ["green"]),
            helper.make_node("Squeeze", ["blue4", "axis"], ["blue"]),
            helper.make_node("Max", ["red", "green"], ["red_or_green"]),
            helper.make_node("Max", ["red_or_green", "blue"], ["confidence"]),
            helper.make_node("Less", ["red", "green"], ["is_green"]),
            helper.make_node("Where", ["is_green", "one", "zero"], ["without_blue"]),
            helper.make_node("Less", ["red_or_green", "blue"], ["is_blue"]),
            helper.make_node("Where", ["is_blue", "two", "without_blue"], ["class_ids"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [*batch, 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, batch) for name in ("class_ids", "confidence")],
        initializer=[
            onnx.numpy_helper.from_array(np.array([3], np.int64), "axis"),
            *(
                onnx.numpy_helper.from_array(np.array(value, np.uint8), name)
                for value, name in enumerate(("zero", "one", "two"))
            ),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, tiny_metadata(height, width).to_properties())
    onnx.checker.check_model(model)
    return model.SerializeToString()
