"""Generate the stubs beside their .proto files (`make proto`); they are committed, so that users need no compiler."""

from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent


def main() -> None:
    """Run protoc over every contract under this folder, with this folder as the import root."""
    well_known = files("grpc_tools") / "_proto"
    google_rpc = files("google.rpc") / ".." / ".."
    for contract in sorted(ROOT.rglob("*.proto")):
        arguments = [
            "protoc",
            f"-I{ROOT}",
            f"-I{well_known}",
            f"-I{google_rpc}",
            f"--python_out={ROOT}",
            f"--pyi_out={ROOT}",
            f"--grpc_python_out={ROOT}",
            str(contract.relative_to(ROOT)),
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"protoc refused {contract}")


if __name__ == "__main__":
    main()
