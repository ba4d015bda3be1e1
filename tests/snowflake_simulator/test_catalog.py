"""Schemas and what SHOW and DESCRIBE say, as the connector hands it on."""

import datetime

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import Connection, KeyPair


def test_drop_schema_takes_tables_views_and_grants_along(
    admin: Connection, user: Connection
) -> None:
    user.rows("CREATE TABLE t (a INT)")
    user.rows("CREATE VIEW v AS SELECT a FROM t")
    admin.rows("DROP SCHEMA d.s1 CASCADE")
    assert user.error("SELECT * FROM d.s1.t") == 2003
    assert admin.records("SHOW TABLES IN DATABASE d") == []
    remaining = {record["name"] for record in admin.records("SHOW GRANTS TO ROLE r1")}
    assert remaining == {"D", "WH"}
    admin.rows("CREATE SCHEMA d.s1")
    assert admin.records("SHOW TABLES IN SCHEMA d.s1") == []


def test_drop_schema_does_not_wait_for_an_open_transaction(
    admin: Connection, user: Connection
) -> None:
    user.rows("CREATE TABLE t (a INT)")
    user.rows("BEGIN")
    user.rows("INSERT INTO t VALUES (1)")
    admin.rows("DROP SCHEMA d.s1 CASCADE")
    assert admin.error("SELECT * FROM d.s1.t") == 2003


def test_show_schemas(admin: Connection) -> None:
    [record] = admin.records("SHOW SCHEMAS LIKE 's1' IN DATABASE d")
    assert list(record)[:7] == [
        "created_on",
        "name",
        "is_default",
        "is_current",
        "database_name",
        "owner",
        "comment",
    ]
    assert isinstance(record["created_on"], datetime.datetime)
    assert (record["name"], record["database_name"], record["owner"]) == (
        "S1",
        "D",
        "ACCOUNTADMIN",
    )


def test_like_treats_the_underscore_as_a_wildcard(admin: Connection) -> None:
    for name in ("w_1", "wx1"):
        admin.rows(f"CREATE SCHEMA d.{name}")
    unescaped = admin.records("SHOW SCHEMAS LIKE 'W_1' IN DATABASE d")
    assert [record["name"] for record in unescaped] == ["WX1", "W_1"]
    escaped = admin.records(r"SHOW SCHEMAS LIKE 'W\\_1' IN DATABASE d")
    assert [record["name"] for record in escaped] == ["W_1"]


def test_show_limits_and_prefixes(admin: Connection) -> None:
    shown = admin.records("SHOW ROLES STARTS WITH 'R' LIMIT 1")
    assert [record["name"] for record in shown] == ["R1"]
    shown = admin.records("SHOW ROLES STARTS WITH 'R' LIMIT 5 FROM 'R1'")
    assert [record["name"] for record in shown] == ["R2"]


def test_show_users(admin: Connection) -> None:
    [record] = admin.records("SHOW USERS LIKE 'u1'")
    assert record["login_name"] == "U1"
    assert record["disabled"] == "false"
    assert (record["default_role"], record["default_namespace"]) == ("R1", "D.S1")
    assert (record["has_password"], record["has_rsa_public_key"]) == ("true", "false")
    assert record["type"] == "LEGACY_SERVICE"


def test_users_see_only_themselves(user: Connection) -> None:
    assert [record["name"] for record in user.records("SHOW USERS")] == ["U1"]
    assert user.error("DESCRIBE USER u2") == 3001


def test_describe_user(admin: Connection) -> None:
    keys = KeyPair()
    admin.rows(f"ALTER USER u1 SET RSA_PUBLIC_KEY = '{keys.public}' COMMENT = 'of a test'")
    described = {row["property"]: row["value"] for row in admin.records("DESCRIBE USER u1")}
    assert described["NAME"] == "U1"
    assert described["COMMENT"] == "of a test"
    assert described["RSA_PUBLIC_KEY_FP"].startswith("SHA256:")
    assert described["PASSWORD"] == "********"
    assert described["DISABLED"] == "false"


def test_show_grants(admin: Connection) -> None:
    to_role = admin.records("SHOW GRANTS TO ROLE r1")
    assert ("USAGE", "DATABASE", "D") in {
        (record["privilege"], record["granted_on"], record["name"]) for record in to_role
    }
    [of_role] = admin.records("SHOW GRANTS OF ROLE r1")
    assert (of_role["role"], of_role["granted_to"], of_role["grantee_name"]) == (
        "R1",
        "USER",
        "U1",
    )
    [to_user] = admin.records("SHOW GRANTS TO USER u1")
    assert to_user["role"] == "R1"
    owners = [
        record["grantee_name"]
        for record in admin.records("SHOW GRANTS ON SCHEMA d.s1")
        if record["privilege"] == "OWNERSHIP"
    ]
    assert owners == ["ACCOUNTADMIN"]


def test_show_parameters_of_a_user(admin: Connection) -> None:
    admin.rows("ALTER USER u1 SET STATEMENT_TIMEOUT_IN_SECONDS = 60")
    [record] = admin.records("SHOW PARAMETERS LIKE 'STATEMENT_TIMEOUT%' FOR USER u1")
    assert (record["value"], record["default"], record["level"]) == ("60", "172800", "USER")


def test_show_results_can_be_scanned(admin: Connection) -> None:
    with admin.inner.cursor() as cursor:
        cursor.execute("SHOW ROLES")
        assert cursor.rowcount == 7
        cursor.execute(
            'SELECT "name" FROM TABLE(RESULT_SCAN(LAST_QUERY_ID())) WHERE "name" LIKE \'R%\''
        )
        assert cursor.fetchall() == [("R1",), ("R2",)]


def test_replaced_user_starts_anew(simulator: SnowflakeSimulator, admin: Connection) -> None:
    admin.rows("CREATE OR REPLACE USER u1")
    [record] = admin.records("SHOW USERS LIKE 'u1'")
    assert record["has_password"] == "false"
    assert admin.records("SHOW GRANTS TO USER u1") == []
