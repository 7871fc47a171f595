"""The archive that TorchServe loads: the exported file, and a line that calls our handler.

It is a zip with a manifest, which is all that TorchServe's own archiver (no longer maintained) would make of it; the
same file makes the same bytes. The code is not in it: the worker imports the installed `serving`.
"""

import json
import re
import zipfile
from pathlib import Path

from serving.errors import InputError
from serving.files import whole_file
from serving.model import Model, name_and_version

HANDLER = "onepixel_handler.py"
HANDLER_SOURCE = """from serving.torchserve.handler import handle

__all__ = ["handle"]
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What TorchServe takes as a name or a version in an address."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def package(model: Path, out: Path | None = None, *, name: str | None = None, version: str | None = None) -> Path:
    """Write a model's archive.

    Parameters
    ----------
    model
        The exported file.
    out
        Where; None means `<name>.mar` beside the model's folder in `model_store/`, or beside the file.
    name, version
        What TorchServe calls it; None means from the path, as everywhere.

    Returns
    -------
    The archive.

    Raises
    ------
    InputError
        If the file is none that `onepixel export` wrote, TorchServe would not take the name or the version, or the
        archive cannot be written.
    """
    Model.load(model)  # a broken file is told here, not by a worker that dies
    path_name, path_version = name_and_version(model)
    name, version = name or path_name, version or path_version
    for option, value in (("--name", name), ("--version", version)):
        if not _NAME.fullmatch(value):
            raise InputError(f"{option}: '{value}'; TorchServe takes letters, digits, '-', '_' and '.', of ASCII")
    if out is None:
        in_store = model.name == "model.onnx" and model.absolute().parent.name.isdecimal()
        out = (model.absolute().parents[2] if in_store else model.parent) / f"{name}.mar"
    manifest = {
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "model": {"modelName": name, "serializedFile": "model.onnx", "handler": HANDLER, "modelVersion": version},
        "archiverVersion": "0.12.0",
    }
    entries = {
        "MAR-INF/MANIFEST.json": json.dumps(manifest, indent=2).encode(),
        HANDLER: HANDLER_SOURCE.encode(),
        "model.onnx": model.read_bytes(),
    }
    try:
        with whole_file(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for entry, content in entries.items():
                archive.writestr(zipfile.ZipInfo(entry, _EPOCH), content)
    except OSError as error:
        raise InputError(f"--out: {out} cannot be written: {error.strerror}") from error
    return out


def read_manifest(archive: Path) -> dict[str, str]:
    """Return what an archive says of its model: `modelName`, `modelVersion`, `serializedFile`, `handler`.

    Raises
    ------
    InputError
        If it is no archive of TorchServe's.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            model: dict[str, str] = json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]
            if all(_NAME.fullmatch(model[key]) for key in ("modelName", "modelVersion", "serializedFile", "handler")):
                return model
        reason = "its manifest has names that TorchServe would not take"
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        reason = str(error)
    raise InputError(f"{archive}: not an archive that `onepixel package` wrote: {reason}")
