"""Command-line flags from dataclasses. A field says what its flag means, what it may be and where help lists it.

    @dataclass(frozen=True)
    class Size:
        side: int = option(512, "Side of a picture in pixels.", within=Range(64, 8192, multiple_of=8))

    @with_options
    def crop(photo: Path, size: Size) -> None: ...  # crop PHOTO --side 256

Values are checked before the command runs, all of them at once. Fields may be bool, int, float, str, Path, a Literal,
each of these or None, and a list or tuple of text, whose flag may be repeated.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import MillError
from .ranges import Range

if TYPE_CHECKING:
    import typer

LARGEST = 2.0**1023
UNIONS = (Union, UnionType)
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", tuple: "a list"}
T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """Marks a command's ``dict`` parameter that takes only the flags of ``options`` that were given.

    ``given: Annotated[dict[str, Any], Given(Config)]`` is for settings that come from files too: what is not given is
    not in it, and nothing is checked. A bool that a file may set has a flag ``--no-…`` too.
    """

    options: type


@dataclass(frozen=True)
class _Flag:
    """What :func:`option` keeps in a field's metadata, under one name: pydantic takes others for its own."""

    help: str
    within: Range
    pattern: str
    possible: str
    panel: str
    shown: str | None


def option(
    default: Any,
    help: str,
    *,
    within: Range | None = None,
    pattern: str = "",
    possible: str = "",
    panel: str = "",
    shown: str | None = None,
    **metadata: Any,
) -> Any:
    """A field of an options dataclass.

    Args:
        default: its value where the flag is not given; ``...`` where it must be given.
        help: what it does, as ``--help`` shows it.
        within: bounds of a number; without them 0 or more.
        pattern: what the whole of a text must match.
        possible: the pattern in words, for errors.
        panel: heading in ``--help`` that this field and those after it stand under.
        shown: the default as ``--help`` shows it, where that is not ``default``.
        metadata: more for the field's metadata.
    """
    metadata["flag"] = _Flag(help, within or Range(), pattern, possible, panel, shown)
    if default is ...:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def unset(options: Any, name: str, **changes: Any) -> Any:
    """A field as in another options dataclass, but None where its flag is not given; ``changes`` as for option."""
    flag = dataclasses.replace(options.__dataclass_fields__[name].metadata["flag"], **changes)
    return dataclasses.field(default=None, metadata={"flag": flag})


def flag_of(name: str) -> str:
    """The flag of a field: ``max_side`` → ``--max-side``."""
    return f"--{name.replace('_', '-')}"


@functools.cache
def types_of(options: Any) -> Mapping[str, Any]:
    """Field → its type, without ``| None``."""
    hints = get_type_hints(options)
    return {field.name: _present(hints[field.name]) for field in dataclasses.fields(options)}


def value_type(kind: Any) -> type:
    """The plain type of a field's values: bool, int, float, str, Path, list or tuple."""
    return str if get_origin(kind) is Literal else get_origin(kind) or kind


def faults(options: Any) -> list[str]:
    """What is wrong with the values of an options dataclass, a line each: the flag, the value, what is possible.

    A dataclass adds what concerns several fields by a method ``conflicts() -> Iterable[str]``.
    """
    found: list[str] = []
    kind: Any = type(options)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        possible = None if value is None else _fault(types_of(kind)[field.name], value, field.metadata["flag"])
        if possible:
            found.append(f"{flag_of(field.name)} {value}: must be {possible}")
    return [*found, *(options.conflicts() if hasattr(options, "conflicts") else ())]


def check(*groups: Any) -> None:
    """Raise MillError with all that is wrong with the values of options dataclasses."""
    raise_all([fault for options in groups for fault in faults(options)])


def raise_all(found: Iterable[str]) -> None:
    """Raise MillError with faults, a line each, where there are any."""
    if text := "\n  ".join(found):
        raise MillError(text)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer understands it: a parameter that is an options dataclass becomes the flags of its fields.

    Raises:
        MillError: when the command runs, with all values that a dataclass does not allow.
    """
    import typer  # here: what only declares options works without

    hints = get_type_hints(command, include_extras=True)
    whole: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    partial = {name: mark.options for name, kind in hints.items() for mark in get_args(kind) if isinstance(mark, Given)}
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in (whole | partial):
            parameters += _parameters((whole | partial)[parameter.name], negatable=parameter.name in partial)
        else:
            kind = hints[parameter.name]
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_flags(context: typer.Context, **values: Any) -> None:
        groups: dict[str, Any] = {}
        for name, options in (whole | partial).items():
            found = {field: _converted(kind, values.pop(field)) for field, kind in types_of(options).items()}
            if name in whole:
                groups[name] = options(**{field: value for field, value in found.items() if value is not None})
            else:
                off = [field for field in found if values.pop(_negation(field), False)]
                groups[name] = {field: value for field, value in found.items() if _is_given(context, field)}
                groups[name].update(dict.fromkeys(off, False))
        check(*(groups[name] for name in whole))
        command(**values, **groups)

    with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_flags


def from_values(options: type[T], values: Mapping[str, Any], source: str) -> T:
    """An options dataclass from a file's values.

    Raises:
        MillError: a name that is no field, or a value of another type; ``source`` says whose. Their ranges are not
            looked at (:func:`check`).
    """
    kind_of: Any = options
    types = types_of(kind_of)
    found = [f"{source}: no setting {name}; there are: {', '.join(types)}" for name in sorted(set(values) - set(types))]
    for name in types.keys() & values.keys():
        kind, value = value_type(types[name]), values[name]
        is_bool = isinstance(value, bool) and kind is not bool
        if is_bool or not isinstance(value, (int, float) if kind is float else kind):
            found.append(f"{source}: {name} = {value!r}: must be {NAMES.get(kind, kind.__name__)}")
    raise_all(found)
    return options(**values)


def _parameters(options: Any, negatable: bool) -> list[inspect.Parameter]:
    """What Typer makes flags of. Where they are ``negatable``, a bool has a second flag that help does not list."""
    import typer
    from rich.markup import escape

    parameters, panel = [], None
    for field in dataclasses.fields(options):
        kind, flag = types_of(options)[field.name], field.metadata["flag"]
        panel = flag.panel or panel
        plain, choices = value_type(kind), get_args(kind) if get_origin(kind) is Literal else ()
        shown = typer.Option(
            *([flag_of(field.name)] if plain is bool else []),
            help=escape(_help(kind, flag)),  # [words] in brackets are no styles
            rich_help_panel=panel,
            show_default=True if flag.shown is None else flag.shown,
            metavar="|".join(choices) or None,
            autocompletion=_completion(choices) if choices else None,
        )
        default = None if field.default in (dataclasses.MISSING, "") else field.default
        if field.default is field.default_factory:  # it has neither
            default = inspect.Parameter.empty
        kind = list[str] if plain in (list, tuple) else plain
        parameters.append(_parameter(field.name, default, Annotated[kind | None, shown]))
        if plain is bool and negatable:
            off = typer.Option(flag_of(_negation(field.name)), hidden=True)
            parameters.append(_parameter(_negation(field.name), False, Annotated[bool, off]))
    return parameters


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _negation(name: str) -> str:
    return f"no_{name}"


def _help(kind: Any, flag: _Flag) -> str:
    bounds = str(flag.within)
    bounded = kind in (int, float) and flag.within != Range()
    return f"{flag.help} {bounds[0].upper()}{bounds[1:]}." if bounded else flag.help


def _completion(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _converted(kind: Any, value: Any) -> Any:
    return tuple(value) if value is not None and value_type(kind) is tuple else value


def _present(hint: Any) -> Any:
    """``X`` of ``X | None``."""
    return next(part for part in get_args(hint) if part is not NoneType) if get_origin(hint) in UNIONS else hint


def _fault(kind: Any, value: Any, flag: _Flag) -> str | None:
    """What a value must be, where it is not."""
    if get_origin(kind) is Literal:
        return None if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
    if kind in (int, float):
        if not abs(value) < LARGEST:
            return "a finite number"
        return None if value in flag.within else str(flag.within)
    if kind is str and flag.pattern and not re.fullmatch(flag.pattern, value):
        return flag.possible
    return None
