"""What roles may do, and how rights come and go."""

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import Connection, connect, password_of

MISSING, IMPOSSIBLE, FORBIDDEN, EXISTS = 2003, 2043, 3001, 2002


def test_own_schema_is_writable_and_the_other_one_invisible(
    admin: Connection, user: Connection
) -> None:
    admin.rows("CREATE TABLE d.s2.secret (a INT)")
    user.rows("CREATE TABLE mine (a INT)")
    user.rows("INSERT INTO mine VALUES (1), (2)")
    assert user.value("SELECT SUM(a) FROM mine") == 3
    assert user.error("SELECT * FROM d.s2.secret") == MISSING
    assert user.error("CREATE TABLE d.s2.t (a INT)") == MISSING
    assert user.error("USE SCHEMA d.s2") == IMPOSSIBLE
    assert user.error("DROP SCHEMA d.s2") == MISSING
    shown = {record["name"] for record in user.records("SHOW SCHEMAS IN DATABASE d")}
    assert shown == {"INFORMATION_SCHEMA", "S1"}
    schemata = user.rows("SELECT schema_name FROM information_schema.schemata ORDER BY 1")
    assert schemata == [("INFORMATION_SCHEMA",), ("S1",)]


def test_ordinary_roles_make_no_account_objects(user: Connection) -> None:
    for statement in ("USER x", "ROLE x", "DATABASE x", "WAREHOUSE x", "SCHEMA d.x"):
        assert user.error(f"CREATE {statement}") == FORBIDDEN
    assert user.error("DROP SCHEMA d.s1") == FORBIDDEN
    assert user.error("DROP USER u2") == FORBIDDEN
    assert user.error("ALTER USER u2 SET DISABLED = TRUE") == FORBIDDEN
    assert user.error("GRANT ROLE r2 TO USER u1") == FORBIDDEN
    assert user.error("SELECT * FROM snowflake.account_usage.sessions") == MISSING


def test_privileges_on_a_table_are_told_apart(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    user.rows("CREATE TABLE t (a INT)")
    admin.rows("GRANT USAGE ON SCHEMA d.s1 TO ROLE r2")
    other = connect(simulator, "U2", password_of("U2"))
    assert other.error("SELECT * FROM d.s1.t") == MISSING
    user.rows("GRANT SELECT ON TABLE t TO ROLE r2")
    assert other.rows("SELECT * FROM d.s1.t") == []
    assert other.error("INSERT INTO d.s1.t VALUES (1)") == FORBIDDEN
    user.rows("GRANT INSERT, UPDATE ON TABLE t TO ROLE r2")
    other.rows("INSERT INTO d.s1.t VALUES (1)")
    assert other.error("DELETE FROM d.s1.t") == FORBIDDEN
    assert other.error("DROP TABLE d.s1.t") == FORBIDDEN
    user.rows("REVOKE SELECT ON TABLE t FROM ROLE r2")
    assert other.error("SELECT * FROM d.s1.t") == FORBIDDEN
    other.close()


def test_rights_come_through_roles_that_were_granted_to_roles(
    admin: Connection, user: Connection
) -> None:
    admin.rows("CREATE TABLE d.s2.t (a INT)")
    admin.rows("CREATE ROLE readers")
    for grant in ("USAGE ON SCHEMA d.s2", "SELECT ON TABLE d.s2.t"):
        admin.rows(f"GRANT {grant} TO ROLE readers")
    admin.rows("GRANT ROLE readers TO ROLE r1")
    assert user.rows("SELECT * FROM d.s2.t") == []
    admin.rows("REVOKE ROLE readers FROM ROLE r1")
    assert user.error("SELECT * FROM d.s2.t") == MISSING


def test_roles_cannot_be_granted_in_a_circle(admin: Connection) -> None:
    admin.rows("GRANT ROLE r1 TO ROLE r2")
    assert admin.error("GRANT ROLE r2 TO ROLE r1") == 1008


def test_role_is_used_only_when_granted(admin: Connection, user: Connection) -> None:
    assert user.error("USE ROLE r2") == 3013
    admin.rows("GRANT ROLE r2 TO USER u1")
    user.rows("USE ROLE r2")
    assert user.value("SELECT CURRENT_ROLE()") == "R2"


def test_secondary_roles_count_until_they_are_switched_off(
    admin: Connection, user: Connection
) -> None:
    admin.rows("CREATE TABLE d.s2.t (a INT)")
    admin.rows("GRANT SELECT ON TABLE d.s2.t TO ROLE r2")
    admin.rows("GRANT ROLE r2 TO USER u1")
    assert user.rows("SELECT * FROM d.s2.t") == []
    user.rows("USE SECONDARY ROLES NONE")
    assert user.error("SELECT * FROM d.s2.t") == MISSING


def test_public_is_everyones(admin: Connection, user: Connection) -> None:
    assert user.error("USE SCHEMA d.s2") == IMPOSSIBLE
    admin.rows("GRANT USAGE ON SCHEMA d.s2 TO ROLE PUBLIC")
    user.rows("USE SCHEMA d.s2")
    admin.rows("REVOKE USAGE ON SCHEMA d.s2 FROM ROLE PUBLIC")
    assert user.error("USE SCHEMA d.s2") == IMPOSSIBLE


def test_future_grants_reach_tables_made_later(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    user.rows("CREATE TABLE before (a INT)")
    admin.rows("GRANT USAGE ON SCHEMA d.s1 TO ROLE r2")
    admin.rows("GRANT SELECT ON FUTURE TABLES IN SCHEMA d.s1 TO ROLE r2")
    user.rows("CREATE TABLE after (a INT)")
    other = connect(simulator, "U2", password_of("U2"))
    assert other.rows("SELECT * FROM d.s1.after") == []
    assert other.error("SELECT * FROM d.s1.before") == MISSING
    admin.rows("GRANT SELECT ON ALL TABLES IN SCHEMA d.s1 TO ROLE r2")
    assert other.rows("SELECT * FROM d.s1.before") == []
    admin.rows("REVOKE SELECT ON FUTURE TABLES IN SCHEMA d.s1 FROM ROLE r2")
    user.rows("CREATE TABLE later_still (a INT)")
    assert other.error("SELECT * FROM d.s1.later_still") == MISSING
    other.close()


def test_future_grants_are_listed(admin: Connection) -> None:
    admin.rows("GRANT SELECT ON FUTURE TABLES IN SCHEMA d.s1 TO ROLE r2")
    [record] = admin.records("SHOW FUTURE GRANTS IN SCHEMA d.s1")
    assert (record["privilege"], record["name"], record["grantee_name"]) == (
        "SELECT",
        "D.S1.<TABLE>",
        "R2",
    )


def test_future_ownership_gives_tables_to_another_role(admin: Connection, user: Connection) -> None:
    admin.rows("GRANT OWNERSHIP ON FUTURE TABLES IN SCHEMA d.s1 TO ROLE r2")
    user.rows("CREATE TABLE t (a INT)")
    [record] = admin.records("SHOW TABLES IN SCHEMA d.s1")
    assert record["owner"] == "R2"


def test_managed_access_leaves_granting_to_the_schemas_owner(
    admin: Connection, user: Connection
) -> None:
    admin.rows("CREATE SCHEMA d.managed WITH MANAGED ACCESS")
    admin.rows("GRANT ALL ON SCHEMA d.managed TO ROLE r1")
    user.rows("CREATE TABLE d.managed.t (a INT)")
    assert user.error("GRANT SELECT ON TABLE d.managed.t TO ROLE r2") == FORBIDDEN
    admin.rows("GRANT SELECT ON TABLE d.managed.t TO ROLE r2")


def test_ownership_moves_with_or_without_the_current_grants(admin: Connection) -> None:
    assert admin.error("GRANT OWNERSHIP ON SCHEMA d.s1 TO ROLE r2") == 3036
    admin.rows("GRANT OWNERSHIP ON SCHEMA d.s1 TO ROLE r2 COPY CURRENT GRANTS")
    admin.rows("GRANT OWNERSHIP ON SCHEMA d.s1 TO ROLE r1 REVOKE CURRENT GRANTS")
    [record] = admin.records("SHOW GRANTS ON SCHEMA d.s1")
    assert (record["privilege"], record["grantee_name"]) == ("OWNERSHIP", "R1")


def test_dropped_role_leaves_its_objects_to_who_dropped_it(
    admin: Connection, user: Connection
) -> None:
    user.rows("CREATE TABLE t (a INT)")
    admin.rows("DROP ROLE r1")
    [record] = admin.records("SHOW TABLES IN SCHEMA d.s1")
    assert record["owner"] == "ACCOUNTADMIN"
    assert admin.records("SHOW GRANTS TO USER u1") == []
    assert user.error("SELECT * FROM t") in (MISSING, 90105)


def test_work_needs_a_warehouse(admin: Connection, user: Connection) -> None:
    user.rows("CREATE TABLE t (a INT)")
    admin.rows("REVOKE USAGE ON WAREHOUSE wh FROM ROLE r1")
    assert user.error("SELECT * FROM t") == 606
    assert user.value("SELECT 1") == 1


def test_names_fold_to_upper_case_unless_quoted(admin: Connection) -> None:
    admin.rows('CREATE ROLE "Mixed Case"')
    admin.rows('GRANT USAGE ON DATABASE d TO ROLE "Mixed Case"')
    assert admin.error("GRANT USAGE ON DATABASE d TO ROLE mixed_case") == MISSING
    assert [record["name"] for record in admin.records("SHOW ROLES LIKE 'mixed%'")] == [
        "Mixed Case"
    ]


def test_existing_and_missing_objects(admin: Connection) -> None:
    for kind, name in (("USER", "u1"), ("ROLE", "r1"), ("SCHEMA", "d.s1"), ("DATABASE", "d")):
        assert admin.error(f"CREATE {kind} {name}") == EXISTS
        admin.rows(f"CREATE {kind} IF NOT EXISTS {name}")
        absent = "d.nothing" if kind == "SCHEMA" else "nothing"
        assert admin.error(f"DROP {kind} {absent}") == MISSING
        admin.rows(f"DROP {kind} IF EXISTS {absent}")
