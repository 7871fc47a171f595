"""Settings from a YAML file, from `key=value` texts and from the environment, into one validated object.

What the training's and the server's settings share: dots lead into sections, values are YAML, and whatever is wrong is
an `InputError` that names the source, the key and the value.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from serving.errors import InputError

Tree = dict[str, Any]
Validated = TypeVar("Validated", bound=BaseModel)


def read_text(path: Path) -> str:
    """Read a configuration file.

    Raises
    ------
    InputError
        If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"configuration {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"configuration {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def parse(text: str, source: str) -> Tree:
    """Parse YAML that holds keys and values; `source` is what an error calls it.

    Raises
    ------
    InputError
        If it is no YAML, or not keys and values.
    """
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of an impossible date
        raise InputError(f"{source} is not YAML: {error}") from error
    if tree is None:
        return {}  # an empty file, or comments alone
    if not isinstance(tree, dict):
        raise InputError(f"{source} must hold keys and values, got {tree!r}")
    return tree


def apply_override(tree: Tree, override: str, example: str) -> None:
    """Put a `key=value` of the command line into the tree.

    Parameters
    ----------
    tree
        Changed in place.
    override
        Such as `queue.max_wait=2`.
    example
        What an error shows as right, such as `dataset.root=DIR`.

    Raises
    ------
    InputError
        If it is no `key=value`, the value is no YAML, or the key leads into a value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: must be key=value, such as {example}")
    _put(tree, key.split("."), text, f"--set {override}")


def apply_environment(tree: Tree, environment: Mapping[str, str], prefix: str) -> None:
    """Put the variables with a prefix into the tree; two underscores lead into a section.

    `ONEPIXEL_SET_QUEUE__MAX_WAIT=2` with the prefix `ONEPIXEL_SET_` is `queue.max_wait=2`.

    Raises
    ------
    InputError
        If a value is no YAML, or a name leads into a value.
    """
    for name, text in sorted(environment.items()):
        if name.startswith(prefix):
            _put(tree, name.removeprefix(prefix).lower().split("__"), text, name)


def validate(kind: type[Validated], tree: Tree, source: str) -> Validated:
    """Make the settings object.

    Raises
    ------
    InputError
        On an unknown key, with the nearest known one, or an impossible value.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(key, keys(kind), n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(f"{source}: unknown key '{key}'{hint}") from error
        message = problem["msg"].removeprefix("Value error, ")
        value = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
        raise InputError(f"{source}: {key}: {message}{value}" if key else f"{source}: {message}") from error


def keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all settings and sections."""
    found = []
    for name, field in kind.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys(field.annotation, f"{prefix}{name}.")
    return found


def _put(tree: Tree, path: list[str], text: str, source: str) -> None:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: the value is not YAML: {error}") from error
    *sections, last = path
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"{source}: '{section}' is a value, not a section")
    tree[last] = value
