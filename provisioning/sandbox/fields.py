"""How parameters are read: the fields and objects that schemas are made of, and their errors.

Requests and the configurations of transformations follow the same rules, so this is no part
of the front.
"""

from collections.abc import Callable
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load

from provisioning import errors

#: More than anybody needs, and what every database takes as a JSON number.
LARGEST_INTEGER = 2**31 - 1
#: Reading an object takes time; a body of the largest size has hundreds of thousands.
MOST_OBJECTS = 1000


class UnknownKey(str):
    """The text of an error: the keys that are allowed, with commas."""


class MissingKey(str):
    """The text of an error whose path says all."""


class Sentence(str):
    """The text of an error that names its parameters itself."""


class Parameters(Schema):
    """A JSON object. Its keys are looked at in their order, so the first error is always the
    same one."""

    def is_given(self, value: Any) -> bool:
        """Return whether a key with this value counts as present (contract 2.6)."""
        return value is not None

    @pre_load
    def check_keys(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return what is present; unknown keys are found first, then missing ones."""
        present = {name: value for name, value in body.items() if self.is_given(value)}
        known = {field.data_key or name: field for name, field in self.fields.items()}
        for name in present:
            if name not in known and self.unknown != EXCLUDE:
                raise ValidationError(UnknownKey(",".join(known)), name)
        for name, field in known.items():
            if field.required and name not in present:
                raise ValidationError(MissingKey(), name)
        return present


def load(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as the schema allows them.

    Raises ``ParameterUnknown``, ``ParameterMissing`` or ``ParameterInvalid``, which name the
    parameter by its path, or ``ParametersContradict``.
    """
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as problem:
        raise _translate(*_first_message(problem.messages)) from None
    return loaded


def _first_message(messages: Any, path: str = "") -> tuple[str, str]:
    """Return the path and the text of the first error, such as ``input.tables[0].limit``."""
    if isinstance(messages, dict):
        key, inner = next(iter(messages.items()))
        step = f"[{key}]" if isinstance(key, int) else f".{key}"
        return _first_message(inner, path + step if path else step.removeprefix("."))
    return path, messages[0] if isinstance(messages, list) else messages


def _translate(path: str, text: str) -> errors.ProvisioningError:
    match text:
        case UnknownKey():
            return errors.ParameterUnknown(path, text.split(","))
        case MissingKey():
            return errors.ParameterMissing(path)
        case Sentence():
            return errors.ParametersContradict(text)
        case _:
            return errors.ParameterInvalid(path, text)


# Values ---------------------------------------------------------------------------------


def read_script(value: Any) -> str:
    """Return a script without the mark that some editors begin a file with: no language runs it."""
    return read_unicode(value).removeprefix("\ufeff")


def read_unicode(value: Any) -> str:
    """Return a string that can be written as UTF-8: JSON may hold halves of characters."""
    if not isinstance(value, str):
        raise ValidationError("a string is expected")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("it is not valid Unicode") from None
    return value


def read_text(value: Any) -> str:
    """Return a string without NUL, which PostgreSQL cannot look for in a job's parameters."""
    text = read_unicode(value)
    if "\0" in text:
        raise ValidationError("NUL is not allowed")
    return text


def read_scalar(value: Any) -> str:
    """Return a string; an integer is taken as its digits."""
    # A boolean is an integer to Python.
    return str(value) if type(value) is int else read_text(value)


def read_name(value: Any) -> str:
    """Return a string that is not empty; an integer is taken as its digits."""
    return read_scalar(value) or _fail("it is empty")


def _fail(text: str) -> str:
    raise ValidationError(text)


class Text(fields.Field[str]):
    """One value that ``read`` returns as a string."""

    def __init__(self, read: Callable[[Any], str] = read_text, **options: Any) -> None:
        super().__init__(**options)
        self._read = read

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        return self._read(value)


class Texts(fields.Field[list[str]]):
    """An array of values that ``read`` returns as strings."""

    def __init__(self, read: Callable[[Any], str] = read_text, **options: Any) -> None:
        super().__init__(**options)
        self._read = read

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[str]:
        found = []
        for index, item in enumerate(_require_array(value)):
            try:
                found.append(self._read(item))
            except ValidationError as problem:
                raise ValidationError({index: problem.messages}) from None
        return found


class Positive(fields.Field[int]):
    """An integer from 1 on."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if type(value) is not int or not 1 <= value <= LARGEST_INTEGER:
            raise ValidationError(f"an integer from 1 to {LARGEST_INTEGER} is expected")
        return value


class Flag(fields.Field[bool]):
    """``true`` or ``false``, no other word for them."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("true or false is expected")
        return value


class Object(fields.Nested):
    """An object inside of another."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("an object is expected")
        return super()._deserialize(value, *arguments, **options)


class Objects(fields.List[Any]):
    """An array of objects of one schema."""

    def __init__(self, schema: type[Parameters], **options: Any) -> None:
        super().__init__(Object(schema), **options)

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        if len(_require_array(value)) > MOST_OBJECTS:
            raise ValidationError(f"at most {MOST_OBJECTS} are taken")
        return super()._deserialize(value, *arguments, **options)


def _require_array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValidationError("an array is expected")
    return value
