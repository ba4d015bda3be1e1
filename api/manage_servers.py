"""/provisioning/manage/server/mysql: servers registered at run time (contract 11.6, 11.7)."""

from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, Response, g, request
from marshmallow import Schema

from api.requests import authenticate_operator, installation, read_parameters
from api.responses import answer
from api.schemas import NoParameters, RegisterServer, load
from provisioning import errors
from provisioning.backends.mysql.registry import BACKEND, Registration
from provisioning.configuration.catalog import backend_rules, require_type
from provisioning.configuration.secrets import Secret
from provisioning.state.enums import ServerMode
from provisioning.state.models import RegisteredServer

blueprint = Blueprint(
    "manage_servers", __name__, url_prefix=f"/provisioning/manage/server/{BACKEND}"
)
NO_PARAMETERS, REGISTER = NoParameters(), RegisterServer()
FORM = "application/x-www-form-urlencoded"
DEFAULT_PORT = 3306


@blueprint.post("")
def register() -> Response:
    operator = authenticate_operator()
    told = _read_form_or_json(REGISTER)
    if "type" in told:
        require_type(backend_rules(BACKEND), told["type"])
    wanted = Registration(
        host=told["host"],
        port=told.get("port", DEFAULT_PORT),
        user=told["user"],
        password=Secret(told["password"]),
        type=told.get("type"),
        mode=ServerMode(told["mode"]) if "mode" in told else None,
        database=told.get("database"),
    )
    return _describe(installation().registry.register(wanted, operator.author))


@blueprint.post("/<server_id>/activate")
def activate(server_id: str) -> Response:
    operator = authenticate_operator()
    read_parameters(NO_PARAMETERS)
    return _describe(installation().registry.activate(server_id, operator.author))


def _read_form_or_json(schema: Schema) -> dict[str, Any]:
    """Return the parameters of a form, or of JSON: clients send that under a form's type too."""
    body: bytes = g.body
    if request.mimetype != FORM or not body.strip() or body.lstrip()[:1] in b"{[":
        return read_parameters(schema)
    try:
        fields = parse_qsl(body.decode(), errors="strict")
    except UnicodeError:
        raise errors.BadJson("not UTF-8") from None
    return load(schema, dict(fields))


def _describe(server: RegisteredServer) -> Response:
    return answer(
        {
            "id": server.id,
            "isAlive": server.alive,
            "host": server.host,
            "type": server.type,
            "mode": server.mode,
        }
    )
