"""The request bodies, as marshmallow schemas, and how their errors become ours."""

from typing import Any

from marshmallow import Schema, ValidationError, fields

from provisioning import errors


class NoParameters(Schema):
    """A request whose body has no parameters."""


class CreateCredentials(Schema):
    """POST /provisioning/{backend}."""

    type = fields.String(error_messages={"invalid": "a string is expected"})


def load(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters; keys that are null count as absent (contract 2.6).

    Raises ``ParameterUnknown``, ``ParameterMissing`` or ``ParameterInvalid``, which names the
    parameter by its path.
    """
    present = {name: value for name, value in body.items() if value is not None}
    for name in present:
        if name not in schema.fields:
            raise errors.ParameterUnknown(name, schema.fields)
    for name, field in schema.fields.items():
        if field.required and name not in present:
            raise errors.ParameterMissing(name)
    try:
        loaded: dict[str, Any] = schema.load(present)
    except ValidationError as problem:
        path, text = _first_message(problem.messages)
        raise errors.ParameterInvalid(path, text) from None
    return loaded


def _first_message(messages: Any, path: str = "") -> tuple[str, str]:
    """Return the path and the text of the first error, such as ``input.tables[0].limit``."""
    if isinstance(messages, dict):
        key, inner = next(iter(messages.items()))
        step = f"[{key}]" if isinstance(key, int) else f".{key}"
        return _first_message(inner, (path + step).removeprefix("."))
    return path, str(messages[0] if isinstance(messages, list) else messages)
