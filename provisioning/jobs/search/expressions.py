"""SQL expressions that every kind of state database words in its own way."""

from functools import reduce
from typing import Any

from sqlalchemy import LargeBinary, SQLColumnExpression, String, Text, case, cast, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

#: PostgreSQL fails on a whole JSON value if one of its texts has a NUL or half a surrogate
#: pair. They are looked for as json.dumps writes them.
_UNREADABLE = r"\\u0000|\\ud[89ab]..(?!\\ud[c-f])|(?<!\\ud[89ab]..)\\ud[c-f]"


class exact(FunctionElement[str]):  # noqa: N801 (it reads as the SQL function it is)
    """A text whose comparison counts every character; MySQL ignores spaces at the end."""

    type = String()
    inherit_cache = True


@compiles(exact)
def _exact(element: exact, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clause_expr, **options))


@compiles(exact, "mysql")
@compiles(exact, "mariadb")
def _exact_in_mysql(element: exact, compiler: Any, **options: Any) -> str:
    return str(compiler.process(cast(element.clause_expr, LargeBinary), **options))


class json_at(FunctionElement[str]):  # noqa: N801
    """The JSON text of what is at a path of a JSON column; NULL or ``null`` for nothing.

    The keys are letters, digits, ``_`` and ``-``.
    """

    type = String()
    inherit_cache = False

    def __init__(self, column: SQLColumnExpression[Any], path: tuple[str, ...]) -> None:
        self.column, self.path = column, path
        super().__init__(column)

    @property
    def quoted_path(self) -> str:
        return "$" + "".join(f'."{key}"' for key in self.path)


@compiles(json_at, "sqlite")
def _json_at_in_sqlite(element: json_at, compiler: Any, **options: Any) -> str:
    # JSON_EXTRACT alone makes numbers of booleans.
    kind = func.json_type(element.column, element.quoted_path)
    value = func.json_quote(func.json_extract(element.column, element.quoted_path))
    found = case((kind == "true", "true"), (kind == "false", "false"), else_=value)
    return str(compiler.process(found, **options))


@compiles(json_at, "postgresql")
def _json_at_in_postgresql(element: json_at, compiler: Any, **options: Any) -> str:
    # Step by step: in a whole path, digits would count as places in arrays.
    value = reduce(lambda inner, key: inner[key], element.path, element.column)
    # A backslash that is meant as one is written twice.
    escapes = func.replace(cast(element.column, Text), r"\\", "/")
    unreadable = escapes.regexp_match(_UNREADABLE)
    return str(compiler.process(case((unreadable, None), else_=cast(value, Text)), **options))


@compiles(json_at, "mysql")
@compiles(json_at, "mariadb")
def _json_at_in_mysql(element: json_at, compiler: Any, **options: Any) -> str:
    value = func.json_extract(element.column, element.quoted_path)
    return str(compiler.process(cast(value, String), **options))
