"""Command lines and recipes -> dataclasses: one function for every program in scripts/."""

import argparse
import copy
import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser

from .recipes import convert, load_recipe, nearest


def parse(
    dataclass_types: type | Sequence[type],
    argv: Sequence[str] | None = None,
    description: str | None = None,
    epilog: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Fills dataclasses from a command line, with `--recipe file.yaml` for everything the command line leaves out.

    What counts, first to last: the command line, the recipe, `defaults`, the dataclasses' own defaults. Booleans are
    `--flag` and `--no_flag`; fields that hold dicts (or lists of dicts) are nested YAML in a recipe and JSON on the
    command line. `--help` shows one group per dataclass, titled with the first line of its docstring.

    Args:
        dataclass_types: one or more dataclasses; a field's `metadata["help"]` explains its flag.
        argv: the arguments without the program's name; None is the process's own.
        description: what the program does, for `--help`.
        epilog: the end of `--help` (examples); its line breaks are kept.
        defaults: this program's defaults for fields of dataclasses that it doesn't own.

    Returns:
        One instance per dataclass, in order.

    Raises:
        SystemExit: after `--help` (code 0), or after a message (code 2) about an unknown flag or recipe key, a value
            of the wrong type, or one that a dataclass refuses by a ValueError in `__post_init__`.
    """
    classes = (dataclass_types,) if isinstance(dataclass_types, type) else tuple(dataclass_types)
    parser = RecipeArgumentParser(classes, description=description, epilog=epilog, allow_abbrev=False)
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser.set_flag_defaults(defaults or {})
    try:
        parser.read_recipe(arguments)
        namespace, unknown = parser.parse_known_args(arguments)
        for argument in unknown:
            if argument.startswith("-"):
                raise ValueError(f"unknown flag {argument}. {nearest(argument.split('=')[0], parser.flags())}")
        if unknown:
            raise ValueError(f"{' '.join(unknown)}: not a flag, and it belongs to none.")
        values = vars(namespace)
        return tuple(
            cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.init})
            for cls in classes
        )
    except ValueError as error:
        parser.error(str(error))


class RecipeArgumentParser(HfArgumentParser):
    """`HfArgumentParser` with one help group per dataclass, JSON for nested values, `--no_x` for every boolean, and
    `--recipe`. It leaves the dataclasses' own field objects untouched (the base class rewrites their types)."""

    def __init__(self, dataclass_types: Sequence[Any], **kwargs: Any) -> None:
        self.hints: dict[str, Any] = {}
        usage = "%(prog)s [--recipe file.yaml] [--flag value ...]"
        super().__init__(dataclass_types, formatter_class=_HelpFormatter, usage=usage, **kwargs)
        self.add_argument("--recipe", help="YAML file with values for any of the flags below; a flag overrides it")

    def flags(self) -> list[str]:
        """Every long flag, with underscores."""
        return [flag for flag in self._option_string_actions if flag.startswith("--") and "-" not in flag[2:]]

    def set_flag_defaults(self, values: Mapping[str, Any]) -> None:
        """Makes these values the defaults of their flags, which are then not required any more.

        Raises:
            ValueError: there is no such flag.
        """
        for name in values:
            if name not in self.hints:
                raise ValueError(f"no flag --{name}. {nearest(name, self.hints)}")
        self.set_defaults(**values)
        for action in self._actions:
            if action.dest in values:
                action.required = False

    def read_recipe(self, argv: Sequence[str]) -> None:
        """Applies the recipe that the command line names, if it names one; raises ValueError as `load_recipe` does."""
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--recipe")
        path = finder.parse_known_args(list(argv))[0].recipe
        if path is not None:
            self.set_flag_defaults(load_recipe(path, self.hints))

    def error(self, message: str) -> NoReturn:
        """Prints the message alone (a usage of a hundred flags would bury it) and exits with code 2."""
        self.exit(2, f"{self.prog}: error: {message}\nEvery flag is explained by: {self.prog} --help\n")

    def _add_dataclass_arguments(self, dtype: type) -> None:
        group: Any = self.add_argument_group(_title(dtype))
        hints = get_type_hints(dtype)
        for original in dataclasses.fields(dtype):
            if not original.init:
                continue
            field = copy.copy(original)
            field.type = hints[field.name]
            self.hints[field.name] = field.type
            if _is_nested(field.type):
                _add_json_argument(group, field)
                continue
            self._parse_dataclass_field(group, field)
            if field.type in (bool, bool | None):
                self._complete_boolean(group, field.name)

    def _complete_boolean(self, group: argparse._ActionsContainer, name: str) -> None:
        """Adds the `--no_` twin where the base class leaves it out (default False: a recipe may set it to True)."""
        if f"--no_{name}" not in self._option_string_actions:
            spellings = (f"--no_{name}", f"--no-{name.replace('_', '-')}")
            group.add_argument(*spellings, action="store_false", dest=name, default=argparse.SUPPRESS)
        self._option_string_actions[f"--no_{name}"].help = argparse.SUPPRESS  # shown beside the flag itself


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Defaults shown, line breaks kept, and each flag listed once (the dashed spelling works but isn't shown)."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        if "%(" not in text and "%%" not in text:
            text = text.replace("%", "%%")  # argparse formats help texts with %
        if action.required:
            return f"{text} (required)"
        return f"{text} (default: %(default)s)" if text and action.default not in (None, argparse.SUPPRESS) else text

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = copy.copy(action)
        shown.option_strings = list(dict.fromkeys(flag for flag in action.option_strings if "-" not in flag[2:]))
        if action.const is True:
            shown.option_strings, shown.nargs = [*shown.option_strings, f"--no_{action.dest}"], 0
        return super()._format_action_invocation(shown)


def _title(dtype: type) -> str:
    first_line = (dtype.__doc__ or "").strip().split("\n")[0].rstrip(".")
    # A dataclass without a docstring gets its signature as one.
    return dtype.__name__ if not first_line or first_line.startswith(f"{dtype.__name__}(") else first_line


def _is_nested(hint: Any) -> bool:
    """Whether values of this type are dicts or lists of dicts, with nothing but None beside them."""
    members = [member for member in get_args(hint) if member is not type(None)]
    if get_origin(hint) is dict or hint is dict:
        return True
    if get_origin(hint) is list:
        return _is_nested(members[0])
    return type(None) in get_args(hint) and len(members) == 1 and _is_nested(members[0])


def _add_json_argument(group: argparse._ActionsContainer, field: dataclasses.Field) -> None:
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    default = None
    if not required:
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    group.add_argument(
        f"--{field.name}",
        f"--{field.name.replace('_', '-')}",
        type=functools.partial(_json_value, hint=field.type),
        metavar="JSON",
        default=default,
        required=required,
        help=field.metadata.get("help"),
    )


def _json_value(text: str, hint: Any) -> Any:
    try:
        return convert(json.loads(text), hint)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
