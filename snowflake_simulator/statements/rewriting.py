"""Turns a table statement into DuckDB's dialect, with every table checked on the way."""

import uuid
from collections.abc import Iterable, Mapping

from sqlglot import ErrorLevel, exp, parse_one
from sqlglot.errors import ParseError, TokenError

from snowflake_simulator import errors, names
from snowflake_simulator.catalog import INFORMATION_SCHEMA, SNOWFLAKE
from snowflake_simulator.engine import physical
from snowflake_simulator.execution import Execution
from snowflake_simulator.names import ObjectName
from snowflake_simulator.reader import Reader
from snowflake_simulator.rights import Securable
from snowflake_simulator.statements import functions, relations
from snowflake_simulator.statements.functions import Argument
from snowflake_simulator.statements.relations import Relation

_WHOLE_TYPES = (
    exp.DataType.Type.INT,
    exp.DataType.Type.SMALLINT,
    exp.DataType.Type.TINYINT,
)
_LOOSE_TYPES = (
    exp.DataType.Type.ARRAY,
    exp.DataType.Type.OBJECT,
    exp.DataType.Type.VARIANT,
)


def parse(sql: str) -> exp.Expr:
    """Parse a statement and fold its names to upper case, unless they are quoted."""
    try:
        tree = parse_one(sql, dialect="snowflake")
    except (ParseError, TokenError) as error:
        raise _syntax_error(error) from error
    if isinstance(tree, exp.Command):
        raise errors.unsupported(tree.name)
    _name_results(tree)
    for identifier in tree.find_all(exp.Identifier):
        if not identifier.quoted:
            identifier.set("this", str(identifier.this).upper())
            identifier.set("quoted", True)
    for kind in tree.find_all(exp.DataType):
        _widen(kind)
    return tree


def generate(tree: exp.Expr) -> str:
    return tree.sql(dialect="duckdb", unsupported_level=ErrorLevel.IGNORE)


def _syntax_error(error: ParseError | TokenError) -> errors.SnowflakeError:
    found = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    return errors.syntax_error(int(found.get("col") or 0), str(found.get("highlight") or ""))


def _name_results(tree: exp.Expr) -> None:
    """Name computed columns as the server does: by their text, in upper case."""
    for select in tree.find_all(exp.Select):
        named = []
        for item in select.expressions:
            plain = isinstance(item, exp.Alias | exp.Column | exp.Star) or item.is_star
            text = item.sql(dialect="snowflake").upper()
            named.append(item if plain else exp.alias_(item, text, quoted=True))
        select.set("expressions", named)


def _widen(kind: exp.DataType) -> None:
    """Whole numbers hold 64 bits, plain NUMBER has no fraction, and VARIANT is JSON."""
    if kind.this in _WHOLE_TYPES:
        kind.set("this", exp.DataType.Type.BIGINT)
    elif kind.this == exp.DataType.Type.DECIMAL and not kind.expressions:
        sizes = [exp.DataTypeParam(this=exp.Literal.number(size)) for size in (38, 0)]
        kind.set("expressions", sizes)
    elif kind.this in _LOOSE_TYPES:
        kind.replace(exp.DataType(this=exp.DataType.Type.JSON))


def table_parts(table: exp.Table) -> ObjectName:
    """Return a table's name as it was written."""
    if isinstance(table.this, exp.DynamicIdentifier):
        return Reader(str(table.this.this.this)).object_name()
    parts = [
        part.name for part in (table.args.get("catalog"), table.args.get("db"), table.this) if part
    ]
    if not all(parts) or not isinstance(table.this, exp.Identifier):
        raise errors.unsupported(table.sql(dialect="snowflake"))
    return tuple(parts)


def evaluate_functions(execution: Execution, tree: exp.Expr) -> exp.Expr:
    """Replace the functions that the simulator answers itself by their values."""
    for call in list(tree.find_all(exp.Func)):
        name = _function_name(call)
        if functions.is_known(name):
            arguments = [_constant(argument) for argument in _arguments(call)]
            value = functions.evaluate(execution, name, arguments)
            literal = exp.null() if value is None else exp.Literal.string(value)
            if call is tree:
                return literal
            call.replace(literal)
    return tree


def _function_name(call: exp.Func) -> str:
    return str(call.this).upper() if isinstance(call, exp.Anonymous) else call.sql_name().upper()


def _arguments(call: exp.Func) -> Iterable[exp.Expr]:
    return call.expressions if isinstance(call, exp.Anonymous) else ()


def _constant(node: exp.Expr) -> Argument:
    if isinstance(node, exp.Neg):
        value = _constant(node.this)
        return -value if isinstance(value, int | float) else value
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Cast):
        return _constant(node.this)
    if not isinstance(node, exp.Literal):
        raise errors.unsupported(f"argument {node.sql(dialect='snowflake')}")
    text = str(node.this)
    if node.is_string:
        return text
    return int(text) if text.isdigit() else float(text)


class Rewriting:
    """One pass over a statement's tables, under the account's lock."""

    def __init__(self, execution: Execution, *, target: exp.Table | None = None) -> None:
        self._execution = execution
        self._target = target
        #: Computed tables by the name of the temporary table that has to hold them.
        self.relations: dict[str, Relation] = {}
        self.needs_warehouse = False

    def run(self, tree: exp.Expr, written: Mapping[int, list[str]]) -> None:
        """Replace all tables; ``written`` has the privileges needed on those that change."""
        local = {cte.alias for cte in tree.find_all(exp.CTE)}
        for source in list(tree.find_all(exp.TableFromRows)):
            self._replace_function(source)
        for table in list(tree.find_all(exp.Table)):
            if table is self._target or table.name in self.relations:
                continue
            parts = table_parts(table)
            if len(parts) == 1 and parts[0] in local:
                continue
            self._replace_table(table, parts, written.get(id(table), ["SELECT"]))
        for assignment in tree.find_all(exp.EQ):
            # DuckDB wants the assigned columns of UPDATE and MERGE bare.
            if assignment.arg_key == "expressions" and isinstance(assignment.parent, exp.Update):
                assignment.this.set("table", None)
        for column in tree.find_all(exp.Column):
            # DuckDB knows the tables under other databases and schemas.
            column.set("db", None)
            column.set("catalog", None)

    def _replace_table(self, table: exp.Table, parts: ObjectName, privileges: list[str]) -> None:
        relation = self._computed(parts)
        self.needs_warehouse = True
        if relation is not None:
            self._put(table, self._keep(relation), parts[-1])
            return
        found = self._execution.usable_table(parts, privileges)
        self._put(table, physical(found.name), parts[-1])

    def _computed(self, parts: ObjectName) -> Relation | None:
        execution = self._execution
        if len(parts) < 2:
            return None
        if parts[-2] == INFORMATION_SCHEMA:
            schema = execution.usable_schema(parts[:-1])
            if parts[-1] not in relations.VIEWS:
                raise errors.missing("object", names.show(parts))
            return relations.VIEWS[parts[-1]](execution, schema.name[0])
        if parts[:-1] == (SNOWFLAKE, "ACCOUNT_USAGE"):
            if not execution.allows("IMPORTED PRIVILEGES", Securable("DATABASE", (SNOWFLAKE,))):
                raise errors.missing("schema", names.show(parts[:-1]))
            if parts[-1] not in relations.USAGE:
                raise errors.missing("object", names.show(parts))
            return relations.USAGE[parts[-1]](execution)
        return None

    def _replace_function(self, source: exp.TableFromRows) -> None:
        path: list[str] = []
        call = source.this
        while isinstance(call, exp.Dot):
            path += [part.name for part in call.this.find_all(exp.Identifier)]
            call = call.expression
        if not isinstance(call, exp.Anonymous):
            return
        name = str(call.this).upper()
        if name == "RESULT_SCAN":
            query_id = str(_constant(call.expressions[0]))
            relation = relations.result_scan(self._execution, query_id)
        elif name in relations.FUNCTIONS:
            self.needs_warehouse = True
            self._execution.usable_schema(tuple(path) or (INFORMATION_SCHEMA,))
            wanted = _named_arguments(call.expressions)
            relation = relations.FUNCTIONS[name](self._execution, wanted)
        else:
            raise errors.unsupported(name)
        table = exp.Table(alias=source.args.get("alias"))
        source.replace(table)
        self._put(table, self._keep(relation), name)

    def _keep(self, relation: Relation) -> str:
        name = f"relation_{uuid.uuid4().hex}"
        self.relations[name] = relation
        return names.quote(name)

    def _put(self, table: exp.Table, name: str, written_as: str) -> None:
        """Point a table to its DuckDB name; other parts of the statement keep calling it so."""
        replacement = exp.to_table(name, dialect="duckdb")
        for key in ("this", "db", "catalog"):
            table.set(key, replacement.args.get(key))
        if not table.alias and table.name != written_as:
            alias = exp.to_identifier(written_as, quoted=True)
            table.set("alias", exp.TableAlias(this=alias))


def _named_arguments(arguments: Iterable[exp.Expr]) -> dict[str, Argument]:
    named: dict[str, Argument] = {}
    for argument in arguments:
        if not isinstance(argument, exp.Kwarg):
            raise errors.unsupported("positional arguments")
        if argument.name.upper().startswith("END_TIME_RANGE"):
            raise errors.unsupported(argument.name)
        named[argument.name.upper()] = _constant(argument.expression)
    return named
