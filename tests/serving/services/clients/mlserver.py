"""MLServer's types, converters and stubs; arguments: address, folder with frames.npy and *.png, and for masks.npz."""

import sys
from pathlib import Path

import grpc
import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest, RequestInput

address, folder = sys.argv[1], Path(sys.argv[2])
frames = np.load(folder / "frames.npy")
files = [path.read_bytes() for path in sorted(folder.glob("*.png"))]

stub = GRPCInferenceServiceStub(grpc.insecure_channel(address))
assert stub.ServerLive(pb.ServerLiveRequest()).live and stub.ServerReady(pb.ServerReadyRequest()).ready
assert stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready
assert [tensor.name for tensor in stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny")).outputs] == [
    "class_ids",
    "confidence",
]

masks = {}
for use_raw in (False, True):
    inputs = {
        "frames": NumpyCodec.encode_input("frames", frames),
        "images": RequestInput(name="images", datatype="BYTES", shape=[len(files)], data=list(files)),
    }
    for name, tensor in inputs.items():
        message = ModelInferRequestConverter.from_types(
            InferenceRequest(id="7", inputs=[tensor]), model_name="tiny", use_raw=use_raw
        )
        answer = ModelInferResponseConverter.to_types(stub.ModelInfer(message))
        assert (answer.id, answer.model_name, answer.model_version) == ("7", "tiny", "1")
        for output in answer.outputs:
            masks[f"{name}/{output.name}/{use_raw}"] = NumpyCodec.decode_output(output)
np.savez(folder / "masks.npz", **masks)
