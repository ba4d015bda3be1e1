"""The schemas of what a sandbox can be asked to load (contract 8.1 and 8.2)."""

from typing import Any

from marshmallow import EXCLUDE, ValidationError, fields, validate, validates_schema

from provisioning.sandbox.fields import (
    Flag,
    Object,
    Objects,
    Parameters,
    Positive,
    Sentence,
    Text,
    Texts,
    read_name,
    read_scalar,
    read_script,
)
from provisioning.sandbox.names import find_clash, plain_name_problem


def _require_distinct(values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise ValidationError("the same value is there twice")


def file_name(table: dict[str, Any]) -> str:
    """Return the name of a table's file."""
    name: str = table.get("destination", table["source"])
    return name


class InputTable(Parameters):
    """A table to load, and how much of it."""

    source = Text(required=True, validate=validate.Length(min=1, error="it is empty"))
    destination = Text()
    columns = Texts(validate=_require_distinct)
    days = Positive()
    changed_since = Text()
    where_column = Text()
    where_values = Texts(read_scalar)
    where_operator = Text(validate=validate.OneOf(("eq", "ne", ""), error="it is not eq or ne"))
    limit = Positive()

    @validates_schema
    def check_destination(self, table: dict[str, Any], **_: Any) -> None:
        problem = plain_name_problem(file_name(table))
        if problem:
            raise ValidationError(problem, "destination")

    @validates_schema
    def check_period(self, table: dict[str, Any], **_: Any) -> None:
        if table.get("days") and table.get("changed_since"):
            raise ValidationError(
                Sentence("Cannot set both parameters 'days' and 'changed_since'.")
            )


class InputFile(Parameters):
    """Files to load, by their tags, by a query, or by both."""

    tags = Texts(read_name)
    query = Text()
    processed_tags = Texts(read_name)
    filter_by_run_id = Flag()
    limit = Positive()

    @validates_schema
    def check_condition(self, file: dict[str, Any], **_: Any) -> None:
        if not file.get("tags") and not file.get("query"):
            raise ValidationError(
                Sentence("At least one of 'tags' or 'query' parameters must be defined.")
            )


class Tables(Objects):
    """An array of tables with different places."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        tables = super()._deserialize(value, *arguments, **options)
        clash = find_clash(map(file_name, tables))
        if clash is not None:
            text = f"'{file_name(tables[clash])}' is taken by another table or its manifest"
            raise ValidationError({clash: {"destination": [text]}})
        return tables


class Input(Parameters):
    """All that a sandbox is to load."""

    tables = Tables(InputTable)
    files = Objects(InputFile)


class InputOrNothing(Object):
    """An input; PHP writes an empty one as an array."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        return super()._deserialize({} if value == [] else value, *arguments, **options)


# Stored configurations ------------------------------------------------------------------


class Stored(Parameters):
    """An object of a stored configuration: there is more in it than what is read here, and
    editors write what was left empty as empty."""

    class Meta:
        unknown = EXCLUDE

    def is_given(self, value: Any) -> bool:
        return bool(value)


class StoredTable(Stored, InputTable):
    """A table as a transformation names it, in camel case."""

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        first, *rest = field_name.split("_")
        field_obj.data_key = first + "".join(map(str.capitalize, rest))


class StoredRow(Stored):
    """The configuration of a transformation's row."""

    backend = Text(required=True)
    type = Text(required=True)
    queries = Texts(read_script)
    packages = Texts(read_name)
    tags = Texts(read_name)
    input = Tables(StoredTable)
