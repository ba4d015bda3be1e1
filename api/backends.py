"""/provisioning: what this installation offers."""

from typing import Any

from flask import Blueprint, Response

from api.requests import authenticate, installation
from api.responses import answer
from provisioning.configuration.catalog import BackendRules

blueprint = Blueprint("backends", __name__)


@blueprint.get("/provisioning")
def list_backends() -> Response:
    authenticate()
    backends = [_describe(rules) for rules in installation().config.offered()]
    return answer({"status": "ok", "backends": backends})


def _describe(rules: BackendRules) -> dict[str, Any]:
    default = rules.default_type if rules.default_type in rules.types else None
    return {
        "name": rules.name,
        "types": list(rules.types),
        "defaultType": default,
        "async": rules.asynchronous,
    }
