"""Frozen dataclasses to JSON and back, strictly: an unknown, missing or ill-typed key is an error.

Layer: shared. Imports nothing but the standard library.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_dict(value: Any, *, omit_defaults: bool = False) -> Any:
    """Turn a dataclass (nested, with enums and tuples) into plain JSON values.

    Args:
        value: The dataclass, or anything inside one.
        omit_defaults: Be compact: leave out fields that have their default value and write whole numbers without
            ".0"; ``from_dict`` restores both.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_dict(getattr(value, field.name), omit_defaults=omit_defaults)
            for field in dataclasses.fields(value)
            if not (omit_defaults and _has_default(field, getattr(value, field.name)))
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [to_dict(item, omit_defaults=omit_defaults) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_dict(item, omit_defaults=omit_defaults) for key, item in value.items()}
    if omit_defaults and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        # 16.0 as 16: ``from_dict`` makes it a float again.
        return int(value)
    return value


def _has_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return field.default is not dataclasses.MISSING and bool(value == field.default)


def from_dict(cls: type[T], data: Any, *, where: str = "") -> T:
    """Build the dataclass ``cls`` from plain JSON values.

    Args:
        cls: A dataclass; its ``__post_init__`` validates the values.
        data: What ``json.loads`` gave.
        where: A prefix for messages, such as ``"manifest"``.

    Raises:
        ValueError: If a key is unknown or missing, or a value has the wrong type. The message names the key.
    """
    where = where or cls.__name__
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected an object, got {type(data).__name__}")
    fields, hints = _fields(cls)  # type: ignore[arg-type]
    _refuse_unknown(data, fields, where)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: missing key {name!r}")
    return cls(**values)


def check_partial(cls: type[Any], data: Any, *, where: str = "") -> None:
    """Check the keys and types of a part of a dataclass's values; what is missing may come from elsewhere.

    Args:
        cls: A dataclass.
        data: Plain values, nested as the dataclass is.
        where: A prefix for messages.

    Raises:
        ValueError: If a key is unknown, or a value has the wrong type. The message names the key.
    """
    where = where or cls.__name__
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a table of keys, got {type(data).__name__}")
    fields, hints = _fields(cls)  # type: ignore[arg-type]
    _refuse_unknown(data, fields, where)
    for name, value in data.items():
        nested = nested_dataclass(hints[name])
        if nested is not None and isinstance(value, Mapping):
            check_partial(nested, value, where=f"{where}.{name}")
        else:
            _value(hints[name], value, f"{where}.{name}")


def nested_dataclass(hint: Any) -> type[Any] | None:
    """The dataclass that a field's annotation names, alone or with None; else None."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)  # type: ignore[return-value]


def _refuse_unknown(data: Mapping[str, Any], fields: Mapping[str, Any], where: str) -> None:
    unknown = sorted(set(map(str, data)) - set(fields))
    if unknown:
        near = get_close_matches(unknown[0], fields, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; expected keys among {sorted(fields)}{hint}")


@cache
def _fields(cls: Any) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, Any]]:
    """A dataclass's fields and the types that its annotations name; resolving those is slow."""
    return {field.name: field for field in dataclasses.fields(cls)}, get_type_hints(cls)


def _value(hint: Any, data: Any, where: str) -> Any:
    """Check and convert one JSON value to the annotated type ``hint``."""
    origin = get_origin(hint)
    if hint is Any:
        return data
    if origin in (Union, types.UnionType):
        if data is None and type(None) in get_args(hint):
            return None
        options = [option for option in get_args(hint) if option is not type(None)]
        for option in options[:-1]:
            try:
                return _value(option, data, where)
            except ValueError:
                continue
        return _value(options[-1], data, where)
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise ValueError(f"{where}: expected a list, got {type(data).__name__}")
        item_hint = get_args(hint)[0]
        return tuple(_value(item_hint, item, f"{where}[{index}]") for index, item in enumerate(data))
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(data, Mapping):
            raise ValueError(f"{where}: expected an object, got {type(data).__name__}")
        item_hint = get_args(hint)[1] if get_args(hint) else Any
        return {str(key): _value(item_hint, item, f"{where}.{key}") for key, item in data.items()}
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, data, where=where)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(data)
        except ValueError:
            expected = ", ".join(str(member.value) for member in hint)
            raise ValueError(f"{where}: expected one of {expected}, got {data!r}") from None
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        advice = ""
        if hint in (int, float) and isinstance(data, str) and _reads_as(hint, data):
            advice = f"; write {data.strip()} without quotes"
        raise ValueError(f"{where}: expected {hint.__name__}, got {data!r}{advice}")
    return data


def _reads_as(number: Any, text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True
