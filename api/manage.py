"""/provisioning/manage: what operators do (contract section 11); needs no token of a project."""

from flask import Blueprint, request

from api.requests import installation, run_id
from provisioning import errors
from provisioning.manage_tokens import Operator
from provisioning.vault import Secret

blueprint = Blueprint("manage", __name__, url_prefix="/provisioning/manage")


def authenticate_operator() -> Operator:
    """Return who operates, or raise why the management token is not good (contract 11.4).

    Maintenance does not keep operators out.
    """
    token = Secret(request.headers.get("X-KBC-ManageApiToken", "").strip())
    if not token.reveal():
        raise errors.ManageTokenMissing
    return installation().manage_tokens.verify(token, run_id())
