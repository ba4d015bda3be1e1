"""Which rights the admin's role has and lacks, according to SHOW GRANTS."""

from provisioning.backends.base import EngineError, Health
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.snowflake.server import MISSING, NO_RIGHT, Server, Statements

#: Privilege, kind of object, its name, and whether it may be passed on.
Right = tuple[str, str, str, bool]


def check_server(server: Server) -> Health:
    """Look whether the account answers and the admin's role has what it needs."""
    config = server.config
    try:
        with server.statements() as run:
            role = str(run("SELECT CURRENT_ROLE() AS role")[0]["role"])
            rights = _rights(run, role)
            lacking = _lacking(server, rights, role)
            # Without its warehouse the role could not even look.
            unseen = None if lacking else _unseen(run, rights, config.warehouse.upper(), role)
    except EngineError as problem:
        return Health(config.name, False, str(problem.args[0]))
    if lacking:
        what, grant = lacking
        return Health(config.name, False, f"the admin's role cannot {what}: {grant}")
    if unseen:
        return Health(config.name, True, f"Snowflake; sessions are not seen: {unseen}")
    return Health(config.name, True, "Snowflake")


def _rights(run: Statements, role: str) -> set[Right]:
    """Return what a role may do, by itself and by the roles it takes along."""
    found: set[Right] = set()
    waiting, seen = [role], {role}
    while waiting:
        for row in run(f"SHOW GRANTS TO ROLE {quote_sql_name(waiting.pop())}"):
            kind, name = str(row["granted_on"]), str(row["name"]).replace('"', "")
            if kind == "ROLE" and row["privilege"] == "USAGE" and name not in seen:
                seen.add(name)
                waiting.append(name)
            passed_on = str(row["grant_option"]).lower() == "true"
            found.add((str(row["privilege"]), kind, name, passed_on))
    return found


def _lacking(server: Server, rights: set[Right], role: str) -> tuple[str, str] | None:
    """Return the first thing that the role cannot do, and the statement that helps."""
    config, quoted = server.config, quote_sql_name(role)
    warehouse = config.warehouse.upper()
    account = {privilege for privilege, kind, _, _ in rights if kind == "ACCOUNT"}
    for privilege in ("CREATE USER", "CREATE ROLE"):
        if privilege not in account:
            return (
                f"{privilege.lower()}s",
                f"GRANT {privilege} ON ACCOUNT TO ROLE {quoted}",
            )
    passes_on = "MANAGE GRANTS" in account
    if not _may_pass_on(rights, "WAREHOUSE", warehouse, passes_on):
        return (
            f"hand out the warehouse {warehouse}",
            f"GRANT USAGE ON WAREHOUSE {quote_sql_name(warehouse)} TO ROLE {quoted} "
            "WITH GRANT OPTION",
        )
    if "{project}" in config.database or "CREATE DATABASE" in account:
        return None
    return _lacking_in_database(config.database.upper(), rights, quoted, passes_on)


def _lacking_in_database(
    database: str, rights: set[Right], role: str, passes_on: bool
) -> tuple[str, str] | None:
    name = quote_sql_name(database)
    owned = ("OWNERSHIP", "DATABASE", database)
    held = {right[:3] for right in rights}
    if owned not in held and ("CREATE SCHEMA", "DATABASE", database) not in held:
        return (
            f"create schemas in {database}",
            f"GRANT CREATE SCHEMA ON DATABASE {name} TO ROLE {role}",
        )
    if not _may_pass_on(rights, "DATABASE", database, passes_on):
        return (
            f"hand out the database {database}",
            f"GRANT USAGE ON DATABASE {name} TO ROLE {role} WITH GRANT OPTION",
        )
    return None


def _may_pass_on(rights: set[Right], kind: str, name: str, all_grants: bool) -> bool:
    return any(
        privilege == "OWNERSHIP" or (privilege == "USAGE" and (option or all_grants))
        for privilege, on, called, option in rights
        if (on, called) == (kind, name)
    )


def _unseen(run: Statements, rights: set[Right], warehouse: str, role: str) -> str | None:
    """Return the statement that lets the role see what others run, if it does not."""
    to_role = f"TO ROLE {quote_sql_name(role)}"
    sees = {
        privilege for privilege, kind, name, _ in rights if (kind, name) == ("WAREHOUSE", warehouse)
    }
    if not sees & {"MONITOR", "OPERATE", "OWNERSHIP"}:
        return f"GRANT MONITOR ON WAREHOUSE {quote_sql_name(warehouse)} {to_role}"
    if not run.ignoring(
        {*MISSING, NO_RIGHT}, "SELECT session_id FROM SNOWFLAKE.ACCOUNT_USAGE.SESSIONS LIMIT 1"
    ):
        return f"GRANT IMPORTED PRIVILEGES ON DATABASE SNOWFLAKE {to_role}"
    return None
