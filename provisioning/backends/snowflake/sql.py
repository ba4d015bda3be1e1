"""Names and values of a workspace, as its statements have them."""

from provisioning.backends.base import Spec
from provisioning.naming import quote_sql_name

#: The row keeps ``DATABASE.SCHEMA`` in 128 characters.
PART_LIMIT = 60


def schema_name(spec: Spec) -> str:
    return ".".join(quote_sql_name(part) for part in spec.object_name.split("."))


def database_of(spec: Spec) -> str:
    return spec.object_name.split(".")[0]


def quote_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
