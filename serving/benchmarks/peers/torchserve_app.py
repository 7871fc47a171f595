"""TorchServe with one worker, over its own gRPC service `Predictions`: archives the model, and becomes the server."""

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

from serving.benchmarks.peers import torchserve_handler

CONFIG = """
inference_address=http://127.0.0.1:0
management_address=http://127.0.0.1:0
metrics_address=http://127.0.0.1:0
grpc_inference_address=127.0.0.1
grpc_management_address=127.0.0.1
grpc_inference_port={port}
grpc_management_port={management_port}
default_workers_per_model=1
disable_token_authorization=true
install_py_dep_per_model=false
"""


def main(model: str, port: str, management_port: str) -> None:
    """Serve until the process is ended."""
    folder = Path(tempfile.mkdtemp(prefix="torchserve-"))
    binaries = Path(sys.executable).parent
    handler = Path(torchserve_handler.__file__)
    described = {"modelName": "segmentation", "modelVersion": "1", "serializedFile": "model.onnx"}
    described["handler"] = handler.name
    with zipfile.ZipFile(folder / "segmentation.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": described}))
        archive.write(handler, handler.name)
        archive.write(model, "model.onnx")
    config = folder / "config.properties"
    config.write_text(CONFIG.format(port=port, management_port=management_port))
    os.chdir(folder)
    os.environ["PATH"] = f"{binaries}:{os.environ['PATH']}"
    # Python's and Java's: sockets and process number would be another TorchServe's.
    os.environ["TMPDIR"] = os.environ["TEMP"] = str(folder)
    command = ["torchserve", "--foreground", "--start", "--ncs", "--model-store", str(folder)]
    command += ["--models", "segmentation=segmentation.mar", "--ts-config", str(config)]
    os.execv(str(binaries / "torchserve"), command)


if __name__ == "__main__":
    main(*sys.argv[1:])
