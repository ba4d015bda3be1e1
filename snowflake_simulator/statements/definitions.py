"""CREATE TABLE and CREATE VIEW."""

from sqlglot import exp

from snowflake_simulator import errors, names
from snowflake_simulator.catalog import Table
from snowflake_simulator.engine import physical
from snowflake_simulator.execution import Execution
from snowflake_simulator.names import ObjectName
from snowflake_simulator.results import Result, status
from snowflake_simulator.statements.rewriting import Rewriting, generate, table_parts

#: Constraints that the server records and does not enforce.
_UNENFORCED = (exp.PrimaryKey, exp.ForeignKey, exp.UniqueColumnConstraint, exp.Constraint)
_UNENFORCED_ON_COLUMN = (
    exp.PrimaryKeyColumnConstraint,
    exp.UniqueColumnConstraint,
    exp.Reference,
)


def create_table_or_view(execution: Execution, tree: exp.Create) -> Result:
    kind = str(tree.args["kind"]).upper()
    target = tree.find(exp.Table)
    if kind not in ("TABLE", "VIEW") or target is None:
        raise errors.unsupported(f"CREATE {kind}")
    with execution.account.lock:
        name = execution.table_name(table_parts(target))
        known = _make_room(execution, tree, kind, name)
        if known is not None:
            return known
        temporary = tree.find(exp.TemporaryProperty) is not None
        comment = tree.find(exp.SchemaCommentProperty)
        sql = _duckdb_statement(execution, tree, target, name)
    execution.connection.commit()
    execution.connection.run(sql)
    with execution.account.lock:
        table = Table(
            name,
            kind,
            execution.now,
            comment="" if comment is None else comment.this.name,
            text=execution.query.text if kind == "VIEW" else "",
            session_id=execution.session.id if temporary else None,
        )
        _register(execution, table)
    return status(f"{kind.capitalize()} {names.show(name[2:])} successfully created.")


def _make_room(
    execution: Execution, tree: exp.Create, kind: str, name: ObjectName
) -> Result | None:
    """Check the right to create, and take away what is replaced.

    Returns the answer when nothing is left to be done.
    """
    schema = execution.usable_schema(name[:2])
    execution.require(f"CREATE {kind}", schema.securable)
    existing = schema.tables.get(name[2])
    if existing is None:
        return None
    if tree.args.get("exists"):
        return status(f"{name[2]} already exists, statement succeeded.")
    if not tree.args.get("replace") or existing.kind != kind:
        raise errors.exists(names.show(name))
    execution.require_ownership(existing.securable)
    execution.connection.commit()
    execution.account.drop_table(name)
    return None


def _duckdb_statement(
    execution: Execution, tree: exp.Create, target: exp.Table, name: ObjectName
) -> str:
    source = _copied(execution, tree)
    if source is not None:
        return f"CREATE TABLE {physical(name)} AS {source}"
    rewriting = Rewriting(execution, target=target)
    rewriting.run(tree, {})
    if rewriting.relations:
        raise errors.unsupported("views and tables over computed tables")
    if tree.args.get("expression") is not None and tree.args["kind"] == "TABLE":
        execution.require_warehouse()
    target.replace(exp.to_table(physical(name), dialect="duckdb"))
    for key in ("properties", "replace", "exists"):
        tree.set(key, None)
    _drop_constraints(tree)
    return generate(tree)


def _copied(execution: Execution, tree: exp.Create) -> str | None:
    """Return the query behind CLONE and LIKE."""
    clone = tree.args.get("clone")
    original = clone or tree.find(exp.LikeProperty)
    if original is None:
        return None
    table = execution.usable_table(table_parts(original.this), ["SELECT"])
    limit = "" if clone is not None else " LIMIT 0"
    return f"SELECT * FROM {physical(table.name)}{limit}"


def _drop_constraints(tree: exp.Create) -> None:
    if not isinstance(tree.this, exp.Schema):
        return
    kept = [item for item in tree.this.expressions if not isinstance(item, _UNENFORCED)]
    tree.this.set("expressions", kept)
    for constraint in list(tree.find_all(exp.ColumnConstraint)):
        if isinstance(constraint.kind, exp.GeneratedAsIdentityColumnConstraint):
            raise errors.unsupported("AUTOINCREMENT")
        if isinstance(constraint.kind, _UNENFORCED_ON_COLUMN):
            constraint.pop()


def _register(execution: Execution, table: Table) -> None:
    schema = execution.account.catalog.schema(table.name[:2])
    if schema is None:
        raise errors.missing("schema", names.show(table.name[:2]))
    schema.tables[table.name[2]] = table
    execution.account.rights.created(table.securable, execution.session.role, execution.now)
