"""The statements the simulator knows, and which function runs each of them."""

from collections.abc import Callable, Mapping

from snowflake_simulator import errors
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Result
from snowflake_simulator.statements import (
    access_tokens,
    containers,
    grants,
    roles,
    session,
    show,
    show_grants,
    tables,
    users,
    warehouses,
)

Handler = Callable[[Execution, Reader], Result]

#: Statements of administration by their first words, the longest match first. They run under
#: the account's lock.
ADMINISTRATION: Mapping[str, Handler] = {
    "ALTER DATABASE": containers.alter_database,
    "ALTER SCHEMA": containers.alter_schema,
    "ALTER SESSION": session.alter,
    "ALTER USER": users.alter,
    "ALTER WAREHOUSE": warehouses.alter,
    "CREATE DATABASE": containers.create_database,
    "CREATE OR REPLACE ROLE": roles.replace,
    "CREATE OR REPLACE SCHEMA": containers.replace_schema,
    "CREATE OR REPLACE TRANSIENT SCHEMA": containers.replace_schema,
    "CREATE OR REPLACE USER": users.replace,
    "CREATE ROLE": roles.create,
    "CREATE SCHEMA": containers.create_schema,
    "CREATE TRANSIENT DATABASE": containers.create_database,
    "CREATE TRANSIENT SCHEMA": containers.create_schema,
    "CREATE USER": users.create,
    "CREATE WAREHOUSE": warehouses.create,
    "DESC TABLE": show.describe_table,
    "DESC USER": users.describe,
    "DESC VIEW": show.describe_table,
    "DESCRIBE TABLE": show.describe_table,
    "DESCRIBE USER": users.describe,
    "DESCRIBE VIEW": show.describe_table,
    "DROP DATABASE": containers.drop_database,
    "DROP ROLE": roles.drop,
    "DROP SCHEMA": containers.drop_schema,
    "DROP TABLE": tables.drop,
    "DROP USER": users.drop,
    "DROP VIEW": tables.drop_view,
    "DROP WAREHOUSE": warehouses.drop,
    "GRANT": grants.grant,
    "REVOKE": grants.revoke,
    "SHOW DATABASES": show.databases,
    "SHOW FUTURE GRANTS": show_grants.future,
    "SHOW GRANTS": show_grants.grants,
    "SHOW PARAMETERS": session.show_parameters,
    "SHOW ROLES": show.roles,
    "SHOW SCHEMAS": show.schemas,
    "SHOW TABLES": show.tables,
    "SHOW TERSE DATABASES": show.databases,
    "SHOW TERSE ROLES": show.roles,
    "SHOW TERSE SCHEMAS": show.schemas,
    "SHOW TERSE TABLES": show.tables,
    "SHOW TERSE USERS": show.users,
    "SHOW USER PATS": access_tokens.show,
    "SHOW USER PROGRAMMATIC ACCESS TOKENS": access_tokens.show,
    "SHOW USERS": show.users,
    "SHOW VIEWS": show.views,
    "SHOW WAREHOUSES": show.warehouses,
    "USE": session.use,
}
#: Statements that read or write rows, or wait for others; they take the lock only to look
#: things up.
WORK: Mapping[str, Handler] = {
    "BEGIN": session.begin,
    "CALL": tables.call,
    "COMMIT": session.commit,
    "ROLLBACK": session.rollback,
    "START TRANSACTION": session.begin,
    "TRUNCATE": tables.truncate,
}
#: The first words of statements that DuckDB runs after they were checked and rewritten.
_TABLE_STATEMENTS = (
    *("(", "ALTER", "CREATE", "DELETE", "INSERT"),
    *("MERGE", "SELECT", "UPDATE", "VALUES", "WITH"),
)


def run(execution: Execution, reader: Reader) -> Result:
    """Run one statement."""
    phrase = _longest(ADMINISTRATION, reader)
    if phrase is not None:
        reader.expect(phrase)
        with execution.account.lock:
            return ADMINISTRATION[phrase](execution, reader)
    phrase = _longest(WORK, reader)
    if phrase is not None:
        reader.expect(phrase)
        return WORK[phrase](execution, reader)
    if any(reader.at(word) for word in _TABLE_STATEMENTS):
        return tables.run(execution, reader)
    if reader.ended:
        raise errors.SnowflakeError(
            "000900", "42601", "SQL compilation error:\nEmpty SQL statement."
        )
    raise reader.unexpected()


def _longest(handlers: Mapping[str, Handler], reader: Reader) -> str | None:
    fitting = [phrase for phrase in handlers if reader.at(phrase)]
    return max(fitting, key=len, default=None)
