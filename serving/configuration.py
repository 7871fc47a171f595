"""Settings from a YAML file, from `key=value` texts and from the environment, into one validated object.

What the training's and the server's settings share: dots lead into sections, values are YAML, and whatever is wrong is
an `InputError` that names the source, the key and the value.
"""

import difflib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from serving.errors import InputError

Tree = dict[str, Any]
Validated = TypeVar("Validated", bound=BaseModel)


class _UniqueKeys(yaml.SafeLoader):
    """YAML whose mappings must not repeat a key: the usual loaders keep the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping, or raise on a repeated key."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<` is no key: what it brings in gives way to what stands beside it
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_text(path: Path, what: str = "configuration") -> str:
    """Read a text file; `what` is what an error calls it.

    Raises
    ------
    InputError
        If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def load_yaml(text: str, source: str) -> Any:
    """Load YAML; `source` is what an error calls it.

    Raises
    ------
    InputError
        If it is no YAML, or a key stands twice; names the line.
    """
    try:
        return yaml.load(text, _UniqueKeys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise InputError(f"{source} is not YAML: {where}{error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of an impossible date
        raise InputError(f"{source} is not YAML: {error}") from error


def parse(text: str, source: str) -> Tree:
    """Parse YAML that holds keys and values; `source` is what an error calls it.

    Raises
    ------
    InputError
        If it is no YAML, or not keys and values.
    """
    tree = load_yaml(text, source)
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


def validate(kind: type[Validated], tree: Tree, source: str, overrides: Sequence[str] = ()) -> Validated:
    """Make the settings object; what an override has brought in is told by it, everything else by `source`.

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
        for override in overrides:
            if f"{key}.".startswith(f"{override.partition('=')[0]}."):
                source = f"--set {override}"
        if problem["type"] == "extra_forbidden":
            hint = did_you_mean(key, keys(kind))
            raise InputError(f"{source}: unknown key '{key}'{hint}{'?' if hint else ''}") from error
        message = problem["msg"].removeprefix("Value error, ")
        value = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
        raise InputError(f"{source}: {key}: {message}{value}" if key else f"{source}: {message}") from error


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that names the known word nearest to one that is none; empty where none is near."""
    same = [one for one in known if one.lower() == word.lower()]
    close = same or difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'" if close else ""


def keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all settings and sections."""
    found = []
    for name, field in kind.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys(field.annotation, f"{prefix}{name}.")
    return found


def _put(tree: Tree, path: list[str], text: str, source: str) -> None:
    value = load_yaml(text, f"{source}: the value")
    *sections, last = path
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"{source}: '{section}' is a value, not a section")
    tree[last] = value
