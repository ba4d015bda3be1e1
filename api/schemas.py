"""The request bodies, as marshmallow schemas."""

import re
from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, fields

from provisioning.backends.key_pairs import read_public_key
from provisioning.sandbox.fields import (
    Flag,
    Object,
    Parameters,
    Positive,
    Text,
    load,
    read_name,
    read_script,
    read_text,
)
from provisioning.sandbox.schemas import Input, InputOrNothing
from provisioning.state.enums import ServerMode
from provisioning.state.formats import read_id

__all__ = [
    "CreateCredentials",
    "CreateFromTransformation",
    "CreateFromTransformationWithCallback",
    "CreateSandbox",
    "CreateSandboxWithCallback",
    "CreateSnowflake",
    "Extend",
    "NoParameters",
    "RegisterServer",
    "ResetPassword",
    "load",
]

_A_STRING: dict[str, Any] = {"invalid": "a string is expected"}


class NoParameters(Parameters):
    """A request whose body has no parameters."""


class Extend(Parameters):
    """POST /provisioning/{backend}/{id}/extend."""

    ttl = Positive()


class ResetPassword(Parameters):
    """POST /provisioning/{backend}/{id}/password."""

    endSessions = Flag()  # noqa: N815 - as the body writes it


class PublicKey(fields.String):
    """An RSA public key, loaded in the form that `provisioning.backends.key_pairs` keeps."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> str:
        text = super()._deserialize(value, *arguments, **options)
        try:
            return read_public_key(str(text))
        except ValueError as problem:
            raise ValidationError(str(problem)) from None


class CreateCredentials(Parameters):
    """POST /provisioning/{backend}."""

    type = fields.String(error_messages=_A_STRING)
    ttl = Positive()


class CreateSnowflake(CreateCredentials):
    """POST /provisioning/snowflake: the caller's own key may log in."""

    publicKey = PublicKey(error_messages=_A_STRING)  # noqa: N815 - as the body writes it


_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")


def _read_host(value: Any) -> str:
    """Return a host name or an address, in lower case: names are compared."""
    text = read_text(value)
    if not _HOST.fullmatch(text):
        raise ValidationError("a host name or an address is expected")
    return text.lower()


def _read_short(longest: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = read_name(value)
        if len(text) > longest:
            raise ValidationError(f"at most {longest} characters are taken")
        return text

    return read


def _read_mode(value: Any) -> str:
    if value not in tuple(ServerMode):
        raise ValidationError(f"{' or '.join(ServerMode)} is expected")
    return str(value)


class Port(fields.Field[int]):
    """A number, or its digits: a form has nothing else."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        text = str(value) if type(value) is int else value
        number = read_id(text) if isinstance(text, str) and text else None
        if number is None or number >= 2**16:
            raise ValidationError("a port from 1 to 65535 is expected")
        return number


class RegisterServer(Parameters):
    """POST /provisioning/manage/server/mysql (contract 11.6)."""

    host = Text(_read_host, required=True)
    user = Text(_read_short(128), required=True)
    password = Text(_read_short(1000), required=True)
    port = Port()
    type = fields.String(error_messages=_A_STRING)
    mode = Text(_read_mode)
    database = Text(_read_short(64))


class CreateSandbox(Parameters):
    """POST /provisioning/async/docker (contract 8.1); whether the type exists is looked at
    by ``require_type``, as for every backend."""

    type = fields.String(required=True, error_messages=_A_STRING)
    script = Text(read_script)
    input = InputOrNothing(Input)
    ttl = Positive()


class WithCallback(Parameters):
    """What a create may say besides, where callbacks are configured."""

    callbackUrl = Text(read_text)  # noqa: N815 - as the body writes it


class CreateSandboxWithCallback(CreateSandbox, WithCallback):
    """POST /provisioning/async/docker, its end told."""


class Transformation(Parameters):
    """A row of a version of a transformation's configuration."""

    config_id = Text(read_name, required=True)
    config_version = Text(read_name, required=True)
    row_id = Text(read_name, required=True)


class CreateFromTransformation(Parameters):
    """POST /provisioning/async/docker/transformation (contract 8.2)."""

    transformation = Object(Transformation, required=True)
    ttl = Positive()


class CreateFromTransformationWithCallback(CreateFromTransformation, WithCallback):
    """POST /provisioning/async/docker/transformation, its end told."""
