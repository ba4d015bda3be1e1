"""The request bodies, as marshmallow schemas, and how their errors become ours."""

from typing import Any

from marshmallow import Schema, ValidationError, fields

from provisioning import errors
from provisioning.key_pairs import read_public_key


class NoParameters(Schema):
    """A request whose body has no parameters."""


class PublicKey(fields.String):
    """An RSA public key, loaded in the form that `provisioning.key_pairs` keeps."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> str:
        text = super()._deserialize(value, *arguments, **options)
        try:
            return read_public_key(str(text))
        except ValueError as problem:
            raise ValidationError(str(problem)) from None


_A_STRING: dict[str, Any] = {"invalid": "a string is expected"}


class CreateCredentials(Schema):
    """POST /provisioning/{backend}."""

    type = fields.String(error_messages=_A_STRING)


class CreateSnowflake(CreateCredentials):
    """POST /provisioning/snowflake: the caller's own key may log in."""

    publicKey = PublicKey(error_messages=_A_STRING)  # noqa: N815 - as the body writes it


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
