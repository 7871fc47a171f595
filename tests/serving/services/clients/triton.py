"""Triton's client, as its users write it; arguments: address, folder with frames.npy and *.png, and for masks.npz."""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

address, folder = sys.argv[1], Path(sys.argv[2])
frames = np.load(folder / "frames.npy")
files = np.array([path.read_bytes() for path in sorted(folder.glob("*.png"))], dtype=np.object_)

client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "1")
assert not client.is_model_ready("other") and not client.is_model_ready("tiny", "9")
assert client.get_server_metadata().name == "onepixel"
metadata = client.get_model_metadata("tiny", as_json=True)
assert metadata["platform"] == "onnxruntime_onnx" and metadata["versions"] == ["1"]
assert {"name": "frames", "datatype": "UINT8", "shape": ["-1", "-1", "-1", "3"]} in metadata["inputs"]

masks = {}
for name, datatype, data in (("frames", "UINT8", frames), ("images", "BYTES", files)):
    tensor = triton.InferInput(name, data.shape, datatype)
    tensor.set_data_from_numpy(data)
    answer = client.infer("tiny", [tensor], request_id="7", client_timeout=20)
    assert answer.get_response().id == "7" and answer.get_response().model_version == "1"
    for output in ("class_ids", "confidence"):
        masks[f"{name}/{output}"] = answer.as_numpy(output)
    only = client.infer("tiny", [tensor], outputs=[triton.InferRequestedOutput("confidence")])
    assert only.as_numpy("class_ids") is None
    assert np.array_equal(only.as_numpy("confidence"), masks[f"{name}/confidence"])

tensor = triton.InferInput("frames", frames[0].shape, "UINT8")
tensor.set_data_from_numpy(frames[0])
try:
    client.infer("tiny", [tensor])
except triton.InferenceServerException as error:
    assert error.status() == "StatusCode.INVALID_ARGUMENT" and "should be [N, height, width, 3]" in error.message()
else:
    raise AssertionError("a frame without its batch was taken")
np.savez(folder / "masks.npz", **masks)
