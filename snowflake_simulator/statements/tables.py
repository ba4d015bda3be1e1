"""Queries, DML and the DDL of tables and views: checked here, run by DuckDB."""

from typing import Any

from sqlglot import exp

from snowflake_simulator import errors, names
from snowflake_simulator.catalog import Table
from snowflake_simulator.engine import physical
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import (
    DELETE,
    INSERT,
    MERGE,
    UPDATE,
    Column,
    Result,
    counted,
    status,
)
from snowflake_simulator.rights import Securable
from snowflake_simulator.statements.definitions import create_table_or_view
from snowflake_simulator.statements.relations import Relation
from snowflake_simulator.statements.rewriting import (
    Rewriting,
    evaluate_functions,
    generate,
    parse,
    table_parts,
)

_DONE = "Statement executed successfully."


def run(execution: Execution, reader: Reader) -> Result:
    """Run a statement that sqlglot understands and DuckDB executes."""
    tree = evaluate_functions(execution, parse(reader.sql))
    match tree:
        case exp.Query() | exp.Values():
            columns, rows = _work(execution, tree, {})
            return Result(columns, rows)
        case exp.Insert() | exp.Update() | exp.Delete() | exp.Merge():
            return _change(execution, tree)
        case exp.Create():
            return create_table_or_view(execution, tree)
        case exp.Alter():
            return _alter(execution, tree)
    raise errors.unsupported(type(tree).__name__)


def call(execution: Execution, reader: Reader) -> Result:
    """CALL of a system function; the column bears the function's name."""
    start = reader.peek()
    select = Reader(f"SELECT {reader.sql[start.start :]} AS {start.text}")
    return run(execution, select)


# Rows --------------------------------------------------------------------------------


def _work(
    execution: Execution, tree: exp.Expr, written: dict[int, list[str]], ending: str = ""
) -> tuple[list[Column], list[tuple[Any, ...]]]:
    """Check and rewrite under the lock, then run without it."""
    rewriting = Rewriting(execution)
    with execution.account.lock:
        rewriting.run(tree, written)
        if rewriting.needs_warehouse:
            execution.require_warehouse()
    execution.query.go_on()
    try:
        for name, relation in rewriting.relations.items():
            _fill(execution, name, relation)
        return execution.connection.run(generate(tree) + ending)
    finally:
        for name in rewriting.relations:
            execution.connection.run(f"DROP TABLE IF EXISTS temp.{names.quote(name)}")


def _fill(execution: Execution, name: str, relation: Relation) -> None:
    table = f"temp.{names.quote(name)}"
    columns = [f"{names.quote(column)} {kind}" for column, kind in relation.columns.items()]
    execution.connection.run(f"CREATE TEMP TABLE {names.quote(name)} ({', '.join(columns)})")
    if relation.rows:
        lists = ", ".join("unnest(?)" for _ in relation.columns)
        values = [list(column) for column in zip(*relation.rows, strict=True)]
        execution.connection.run(f"INSERT INTO {table} SELECT {lists}", values)


def _change(execution: Execution, tree: exp.Insert | exp.Update | exp.Delete | exp.Merge) -> Result:
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    if not isinstance(target, exp.Table) or tree.args.get("overwrite"):
        raise errors.unsupported(f"{type(tree).__name__} of this form")
    if not execution.session.parameter("AUTOCOMMIT"):
        execution.connection.begin()
    if isinstance(tree, exp.Merge):
        return _merge(execution, tree, target)
    privilege = type(tree).__name__.upper()
    _, [[count]] = _work(execution, tree, {id(target): [privilege]})
    match tree:
        case exp.Insert():
            return counted(INSERT, number_of_rows_inserted=count)
        case exp.Update():
            return counted(
                UPDATE, number_of_rows_updated=count, number_of_multi_joined_rows_updated=0
            )
        case _:
            return counted(DELETE, number_of_rows_deleted=count)


def _merge(execution: Execution, tree: exp.Merge, target: exp.Table) -> Result:
    """Run a MERGE, whose answer has a column for each action that it names."""
    named = {_merge_action(when) for when in tree.find_all(exp.When)}
    _, rows = _work(
        execution, tree, {id(target): ["SELECT", *sorted(named)]}, " RETURNING merge_action"
    )
    counts = {
        f"number_of_rows_{action.lower().rstrip('e')}ed": rows.count((action,))
        for action in ("INSERT", "UPDATE", "DELETE")
        if action in named
    }
    return counted(MERGE, **counts)


def _merge_action(when: exp.When) -> str:
    then = when.args["then"]
    return str(then.name if isinstance(then, exp.Var) else type(then).__name__).upper()


def truncate(execution: Execution, reader: Reader) -> Result:
    reader.accept("TABLE")
    if_exists = reader.accept("IF EXISTS") is not None
    name = reader.object_name()
    reader.end()
    with execution.account.lock:
        if if_exists and execution.account.catalog.table(execution.table_name(name)) is None:
            return status(_DONE)
        table = execution.usable_table(name, ["TRUNCATE"])
    execution.connection.commit()
    execution.connection.run(f"DELETE FROM {physical(table.name)}")
    return status(_DONE)


# Tables and views --------------------------------------------------------------------


def drop(execution: Execution, reader: Reader) -> Result:
    return _drop(execution, reader, "TABLE")


def drop_view(execution: Execution, reader: Reader) -> Result:
    return _drop(execution, reader, "VIEW")


def _drop(execution: Execution, reader: Reader, kind: str) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = reader.object_name()
    reader.accept("CASCADE", "RESTRICT")
    reader.end()
    complete = execution.table_name(name)
    if if_exists and execution.account.catalog.table(complete) is None:
        return status("Drop statement executed successfully.")
    table = execution.usable_table(complete, [])
    if table.kind != kind:
        raise errors.missing(kind, names.show(complete))
    execution.require_ownership(table.securable)
    execution.connection.commit()
    execution.account.drop_table(table.name)
    return status(f"{names.show(complete[2:])} successfully dropped.")


def _alter(execution: Execution, tree: exp.Alter) -> Result:
    if not isinstance(tree.this, exp.Table):
        raise errors.unsupported("ALTER")
    with execution.account.lock:
        table = execution.usable_table(table_parts(tree.this), [])
        execution.require_ownership(table.securable)
        execution.connection.commit()
        renames = [action for action in tree.actions if isinstance(action, exp.AlterRename)]
        if renames:
            _rename(execution, table, renames[0])
            return status(_DONE)
        tree.set("this", exp.to_table(physical(table.name), dialect="duckdb"))
        execution.connection.run(generate(tree))
    return status(_DONE)


def _rename(execution: Execution, table: Table, action: exp.AlterRename) -> None:
    name = execution.table_name(table_parts(action.this))
    schema = execution.usable_schema(name[:2])
    if name[:2] != table.name[:2]:
        raise errors.unsupported("RENAME to another schema")
    if name[2] in schema.tables:
        raise errors.exists(names.show(name))
    new = physical(name).rpartition(".")[2]
    execution.connection.run(f"ALTER {table.kind} {physical(table.name)} RENAME TO {new}")
    execution.account.rights.renamed(table.securable, Securable(table.kind, name))
    schema.tables[name[2]] = schema.tables.pop(table.name[2])
    table.name = name
