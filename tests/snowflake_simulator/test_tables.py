"""Rows: types, DML, transactions, bound values."""

import datetime
from decimal import Decimal

import pytest

from tests.snowflake_simulator.connections import Connection


def test_values_keep_their_types(user: Connection) -> None:
    user.rows(
        "CREATE TABLE t (n NUMBER, d NUMBER(10, 2), f FLOAT, s VARCHAR(10), b BOOLEAN, day DATE,"
        " at TIMESTAMP_NTZ, raw BINARY, PRIMARY KEY (n))"
    )
    user.rows(
        "INSERT INTO t SELECT 1, 2.5, 1.25, 'é''', TRUE, '2026-02-03', '2026-02-03 04:05:06.5',"
        " NULL"
    )
    assert user.rows("SELECT * FROM t") == [
        (
            1,
            Decimal("2.50"),
            1.25,
            "é'",
            True,
            datetime.date(2026, 2, 3),
            datetime.datetime(2026, 2, 3, 4, 5, 6, 500_000),
            None,
        )
    ]


def test_columns_are_named_as_the_server_names_them(user: Connection) -> None:
    [record] = user.records('SELECT COUNT(*), 1 AS one, 2 AS "Two" FROM (SELECT 1 AS x)')
    assert list(record) == ["COUNT(*)", "ONE", "Two"]


@pytest.mark.parametrize("value", ["plain", "a'b", "a\\b", "é\n\t%", "--", None, 12, -1.5, True])
def test_values_bound_by_the_client(user: Connection, value: object) -> None:
    assert user.value("SELECT %s AS x", (value,)) == value
    assert user.value("SELECT %(v)s AS x", {"v": value}) == value


def test_dml_counts_rows(user: Connection) -> None:
    user.rows("CREATE TABLE t (a INT, b VARCHAR)")
    both = "WHEN MATCHED THEN UPDATE SET t.b = 'm' WHEN NOT MATCHED THEN INSERT (a) VALUES (s.a)"
    with user.inner.cursor() as cursor:
        for statement, count in (
            ("INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')", 3),
            ("UPDATE t SET t.b = 'q' WHERE a < 3", 2),
            ("DELETE FROM t WHERE a = 3", 1),
            (f"MERGE INTO t USING (SELECT 9 AS a UNION SELECT 1) s ON t.a = s.a {both}", 2),
            ("SELECT * FROM t", 3),
        ):
            cursor.execute(statement)
            assert cursor.rowcount == count, statement
    user.rows("TRUNCATE TABLE t")
    assert user.rows("SELECT * FROM t") == []


def test_table_made_from_a_query_like_or_clone(user: Connection) -> None:
    user.rows("CREATE TABLE t AS SELECT 1 AS a, 'x' AS b")
    user.rows("CREATE TABLE copied CLONE t")
    user.rows("CREATE TABLE empty LIKE t")
    user.rows("CREATE OR REPLACE TABLE t (z INT)")
    assert user.rows("SELECT * FROM copied") == [(1, "x")]
    assert user.rows("SELECT * FROM empty") == []
    assert [record["name"] for record in user.records("DESCRIBE TABLE t")] == ["Z"]


def test_views_show_tables_that_stay_hidden(admin: Connection, user: Connection) -> None:
    admin.rows("CREATE TABLE d.s2.t AS SELECT 1 AS a, 2 AS b")
    admin.rows("CREATE VIEW d.s1.v AS SELECT a FROM d.s2.t")
    admin.rows("GRANT SELECT ON VIEW d.s1.v TO ROLE r1")
    assert user.rows("SELECT * FROM d.s1.v") == [(1,)]
    assert user.error("SELECT * FROM d.s2.t") == 2003


def test_rows_of_an_open_transaction_are_rolled_back(user: Connection) -> None:
    user.rows("CREATE TABLE t (a INT)")
    user.rows("BEGIN")
    user.rows("INSERT INTO t VALUES (1)")
    user.rows("ROLLBACK")
    assert user.value("SELECT COUNT(*) FROM t") == 0
    user.rows("ALTER SESSION SET AUTOCOMMIT = FALSE")
    user.rows("INSERT INTO t VALUES (1)")
    user.inner.rollback()
    assert user.value("SELECT COUNT(*) FROM t") == 0


def test_names_that_differ_in_case_only(user: Connection) -> None:
    user.rows('CREATE TABLE "t" AS SELECT 1 AS a')
    user.rows("CREATE TABLE t AS SELECT 2 AS a")
    assert user.rows('SELECT "t".a, x.a FROM "t", t AS x') == [(1, 2)]


def test_joins_of_qualified_names(user: Connection) -> None:
    user.rows("CREATE TABLE t AS SELECT 1 AS a")
    user.rows("CREATE TABLE u AS SELECT 1 AS a, 'x' AS b")
    join = "SELECT d.s1.t.a, u.b FROM d.s1.t JOIN u ON d.s1.t.a = u.a"
    assert user.rows(join) == [(1, "x")]
    assert user.rows("WITH c AS (SELECT a FROM t) SELECT a FROM c UNION ALL SELECT 7") == [
        (1,),
        (7,),
    ]


def test_temporary_tables_end_with_their_session(admin: Connection, user: Connection) -> None:
    user.rows("CREATE TEMPORARY TABLE t (a INT)")
    user.close()
    assert admin.records("SHOW TABLES IN SCHEMA d.s1") == []


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("SELEC 1", 1003),
        ("SELECT FROM WHERE", 1003),
        ("SELECT 'open", 1003),
        ("SELECT 1; SELECT 2", 8),
        ("SELECT missing FROM (SELECT 1 AS x)", 904),
        ("SELECT * FROM missing", 2003),
        ("CREATE STAGE x", 2),
    ],
)
def test_wrong_statements(user: Connection, statement: str, number: int) -> None:
    assert user.error(statement) == number


def test_closing_semicolons_and_comments_do_no_harm(user: Connection) -> None:
    assert user.value("/* a */ SELECT 1 -- b\n;") == 1
