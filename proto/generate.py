"""Generate the stubs beside their .proto files (`make proto`); they are committed, so that users need no compiler.

`make released-contract` calls it with a file: there it keeps the contract of a release, for later ones to be held to.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent


def compile_contract(contract: Path, *outputs: str) -> None:
    """Run protoc over a contract, with this folder as the import root."""
    includes = (ROOT, files("grpc_tools") / "_proto", files("google.rpc") / ".." / "..")
    arguments = ["protoc", *(f"-I{folder}" for folder in includes), *outputs, str(contract.relative_to(ROOT))]
    if protoc.main(arguments) != 0:
        raise SystemExit(f"protoc refused {contract}")


def main() -> None:
    """Generate the stubs of every contract, or write our own as a FileDescriptorSet to the file that was named."""
    if len(sys.argv) > 1:
        own = ROOT / "onepixel" / "v1" / "segmentation.proto"
        compile_contract(own, "--include_imports", f"--descriptor_set_out={sys.argv[1]}")
        return
    for contract in sorted(ROOT.rglob("*.proto")):
        compile_contract(contract, f"--python_out={ROOT}", f"--pyi_out={ROOT}", f"--grpc_python_out={ROOT}")


if __name__ == "__main__":
    main()
