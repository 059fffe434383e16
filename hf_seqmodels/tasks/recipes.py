"""Recipes: YAML files that give a program's flags their defaults."""

import difflib
import enum
import types
from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any, Literal, Union, get_args, get_origin

import yaml


def nearest(name: str, allowed: Collection[str]) -> str:
    """The names nearest to a misspelt one, as the end of an error message; every name if none is near."""
    close = difflib.get_close_matches(name, allowed, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(close)}?" if close else f"Allowed: {', '.join(sorted(allowed))}."


def load_recipe(path: str | PathLike[str], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a recipe and checks each value against the type of the flag it sets.

    Args:
        path: a YAML file with one mapping: flag name (without dashes) to value.
        hints: flag name to type annotation: the allowed names.

    Returns:
        The values, converted to the annotated types (an int for a float, text such as `1e-4`, which YAML 1.1 doesn't
        read as a number, an enum by its value).

    Raises:
        ValueError: the file can't be read, isn't YAML or isn't one mapping, or it has an unknown name or a value of
            the wrong type. Every culprit is named.
    """
    try:
        with open(path, encoding="utf-8") as file:
            recipe = yaml.safe_load(file)
    except OSError as error:
        raise ValueError(f"Recipe {path} can't be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Recipe {path} is not valid YAML: {error}") from error
    if recipe is None:
        return {}
    if not isinstance(recipe, dict):
        raise ValueError(f"Recipe {path} must be a mapping of flags to values; it is a {type(recipe).__name__}.")
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in recipe.items():
        if name not in hints:
            problems.append(f"unknown key {name!r}. {nearest(str(name), hints)}")
            continue
        try:
            values[name] = convert(value, hints[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError("\n  ".join([f"Recipe {path} has {len(problems)} error(s):", *problems]))
    return values


def convert(value: Any, hint: Any) -> Any:
    """A value read from YAML as the type that a field is annotated with.

    Raises:
        ValueError: the value is not of that type; says which type is expected.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments)
    if hint is Any:
        return value
    if origin is Literal:
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
        raise ValueError(f"{value!r} is not one of {', '.join(map(repr, arguments))}{_yaml_hint(value)}.")
    if origin is list and isinstance(value, list) and arguments:
        return [convert(item, arguments[0]) for item in value]
    plain = origin or hint
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        if value in {member.value for member in plain}:
            return plain(value)
        raise ValueError(f"{value!r} is not one of {', '.join(str(member.value) for member in plain)}.")
    if plain is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass  # falls through to the message that serves every type
    elif isinstance(plain, type) and isinstance(value, plain) and not (plain is int and isinstance(value, bool)):
        return value
    raise ValueError(f"expected {_readable(hint)}, got {value!r} ({type(value).__name__}){_yaml_hint(value)}.")


def _convert_union(value: Any, members: tuple[Any, ...]) -> Any:
    if value is None and type(None) in members:
        return None
    members = tuple(member for member in members if member is not type(None))
    # A member that takes the value as it stands goes before one that converts it: "0.1" stays text in `float | str`.
    for member in sorted(members, key=lambda member: not (isinstance(member, type) and type(value) is member)):
        try:
            return convert(value, member)
        except ValueError as error:
            if len(members) == 1:
                raise ValueError(str(error)) from error
    expected = " or ".join(_readable(member) for member in members)
    raise ValueError(f"expected {expected}, got {value!r} ({type(value).__name__}){_yaml_hint(value)}.")


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _yaml_hint(value: Any) -> str:
    if isinstance(value, bool):
        return "; YAML reads unquoted yes, no, on and off as booleans: put text in quotes"
    return ""
