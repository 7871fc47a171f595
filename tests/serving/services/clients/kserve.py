"""KServe's client; arguments: address, folder with frames.npy and *.png, and for masks.npz."""

import asyncio
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

address, folder = sys.argv[1], Path(sys.argv[2])
frames = np.load(folder / "frames.npy")
files = [path.read_bytes() for path in sorted(folder.glob("*.png"))]


async def main() -> dict[str, np.ndarray]:
    masks = {}
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("tiny") and not await client.is_model_ready("other")
        for use_raw in (False, True):
            inputs = [
                InferInput("frames", list(frames.shape), "UINT8", None if use_raw else frames.ravel().tolist()),
                InferInput("images", [len(files)], "BYTES", None if use_raw else files),
            ]
            if use_raw:
                inputs[0].set_data_from_numpy(frames)
                inputs[1].set_data_from_numpy(np.array(files, np.object_))
            for tensor in inputs:
                answer = await client.infer(InferRequest("tiny", [tensor], request_id="7"))
                assert (answer.id, answer.model_name, answer.model_version) == ("7", "tiny", "1")
                for output in answer.outputs:
                    masks[f"{tensor.name}/{output.name}/{use_raw}"] = output.as_numpy()
                    if not use_raw:
                        assert len(output.data) == output.as_numpy().size
    return masks


np.savez(folder / "masks.npz", **asyncio.run(main()))
