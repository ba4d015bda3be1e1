"""What every backend must do, on a real server (architecture: a backend)."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from provisioning.backends.base import EngineUnavailable, LoginRefused, NameInUse, Owner
from provisioning.configuration.secrets import generate_password
from provisioning.state.claims import ClaimLost
from tests.backends.case import Case, lease
from tests.support.deadlines import DEADLINE, wait_until


def query(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


# Create ---------------------------------------------------------------------------------


def test_a_created_login_can_make_and_read_tables(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as connection:
        query(connection, "CREATE TABLE t (a INT)")
        query(connection, "INSERT INTO t VALUES (42)")
        assert query(connection, "SELECT a FROM t") == [(42,)]


def test_a_repeated_create_finishes_and_sets_the_password_again(case: Case) -> None:
    spec, old = case.made()
    password = generate_password()
    if case.backend.shares_login(case.type):
        # Others may use the login: its password is changed by `set_password` alone.
        with pytest.raises(LoginRefused):
            case.backend.create(spec, password, lease(token=2))
        return
    case.backend.create(spec, password, lease(token=2))
    with case.session(spec, password) as connection:
        assert query(connection, "SELECT 1") == [(1,)]
    with pytest.raises(case.error):
        case.connect(spec, old)


def test_a_half_made_object_is_finished(case: Case) -> None:
    spec, password = case.made()
    case.remove_object(spec)
    case.backend.create(spec, password, lease(token=2))
    case.remove_login(spec)
    case.backend.create(spec, password, lease(token=2))
    case.lock_login(spec)
    case.backend.create(spec, password, lease(token=2))
    case.backend.drop(spec, lease())
    case.backend.create(spec, password, lease(token=2))
    with case.session(spec, password) as connection:
        query(connection, "CREATE TABLE t (a INT)")


def test_a_name_somebody_else_uses_is_left_alone(case: Case) -> None:
    spec = case.spec()
    case.make_foreign_object(spec)
    with pytest.raises(NameInUse):
        case.backend.create(spec, generate_password(), lease(token=1))
    assert case.foreign_object_survives(spec)
    assert case.remains(spec) == []


# Rights ---------------------------------------------------------------------------------


def test_a_login_has_no_rights_outside_its_own_place(case: Case) -> None:
    spec, password = case.made()
    other = case.spec()
    case.make_foreign_object(other)
    for statement in case.forbidden(other):
        with case.session(spec, password) as connection, pytest.raises(case.error):
            query(connection, statement)
    assert case.foreign_object_survives(other)


# Look -----------------------------------------------------------------------------------


def test_exists_tells_a_complete_credential_from_one_with_a_part_gone(case: Case) -> None:
    spec, password = case.made()
    assert case.backend.exists(spec)
    for removal in (case.remove_object, case.remove_login, case.lock_login):
        removal(spec)
        assert not case.backend.exists(spec), removal
        case.backend.create(spec, password, lease(token=2))
        assert case.backend.exists(spec)
    with case.session(spec, password):
        pass


def test_in_use_follows_open_connections(case: Case) -> None:
    spec, password = case.made()
    # On a busy machine the server may still be closing the session of the service's login check.
    wait_until(lambda: not case.backend.in_use(spec), what="not in use yet")
    with case.session(spec, password):
        assert case.backend.in_use(spec) is True
    wait_until(lambda: not case.backend.in_use(spec), what="not in use")


# Kill -----------------------------------------------------------------------------------


def test_kill_ends_sessions_and_keeps_the_credential_and_its_data(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as first, case.session(spec, password) as second:
        query(first, "CREATE TABLE t (a INT)")
        assert case.backend.kill(spec, lease()) == 2
        for connection in (first, second):
            with pytest.raises(case.error):
                query(connection, "SELECT 1")
    with case.session(spec, password) as again:
        assert query(again, "SELECT COUNT(*) FROM t") == [(0,)]


@pytest.mark.parametrize("end", ["kill", "drop"])
def test_a_running_statement_is_ended(case: Case, end: str) -> None:
    spec, password = case.made()
    ended: list[Exception] = []

    def sleep_long() -> None:
        try:
            query(connection, case.sleep)
        except case.error as error:
            ended.append(error)

    with case.session(spec, password) as connection:
        running = threading.Thread(target=sleep_long)
        running.start()
        wait_until(lambda: case.runs_long(spec), what="the statement runs")
        getattr(case.backend, end)(spec, lease())
        running.join(DEADLINE)
    assert len(ended) == 1
    if end == "kill":
        case.connect(spec, password).close()
        return
    assert case.remains(spec) == []
    with pytest.raises(case.error):
        case.connect(spec, password)


def test_kill_of_nothing_is_fine(case: Case) -> None:
    spec, _ = case.made()
    assert case.backend.kill(spec, lease()) == 0


# Drop -----------------------------------------------------------------------------------


def test_drop_leaves_nothing_and_nobody(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as connection:
        query(connection, "CREATE TABLE t (a INT)")
        case.backend.drop(spec, lease())
        with pytest.raises(case.error):
            query(connection, "SELECT 1")
    assert case.remains(spec) == []
    with pytest.raises(case.error):
        case.connect(spec, password)


def test_drop_ends_an_open_transaction_that_holds_a_table(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password, autocommit=False) as connection:
        query(connection, "CREATE TABLE t (a INT)")
        connection.commit()
        query(connection, "INSERT INTO t VALUES (1)")
        case.backend.drop(spec, lease())
    assert case.remains(spec) == []


def test_drop_removes_views_too(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as connection:
        query(connection, "CREATE TABLE t (a INT)")
        query(connection, "CREATE VIEW v AS SELECT * FROM t")
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []


def test_drop_of_what_is_missing_succeeds(case: Case) -> None:
    spec, _ = case.made()
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []
    case.backend.drop(spec, lease())
    never_made = case.spec()
    case.backend.drop(never_made, lease())
    assert case.remains(spec) == case.remains(never_made) == []


@pytest.mark.parametrize("gone", ["remove_object", "remove_login", "lock_login"])
def test_drop_finishes_what_was_removed_by_hand(case: Case, gone: str) -> None:
    spec, _ = case.made()
    getattr(case, gone)(spec)
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []


# Inventory ------------------------------------------------------------------------------


def test_the_inventory_has_every_part_and_each_leads_to_its_removal(case: Case) -> None:
    spec, _ = case.made()
    found = case.backend.inventory(case.prefix, "one")
    assert {one.kind for one in found} == case.backend.parts
    for one in found:
        assert one.user_name in (None, spec.user_name)
        assert one.object_name in (None, spec.object_name)
        assert one.spec is not None
        if one.spec.object_name:
            assert one.spec.credentials_id == spec.credentials_id
            assert one.spec.object_name == spec.object_name
        assert one.spec.user_name == spec.user_name
    (whole, *_) = (one.spec for one in found if one.spec and one.object_name)
    case.backend.drop(whole, lease())
    assert case.remains(spec) == []
    assert case.backend.inventory(case.prefix, "one") == []


@pytest.mark.parametrize("gone", ["remove_object", "remove_login"])
def test_half_of_a_credential_leads_to_its_removal_too(case: Case, gone: str) -> None:
    spec, _ = case.made()
    getattr(case, gone)(spec)
    for one in case.backend.inventory(case.prefix, "one"):
        assert one.spec is not None
        found = one.spec if one.spec.object_name else replace(one.spec, object_name="t_nothing.x")
        case.backend.drop(found, lease())
    assert case.backend.inventory(case.prefix, "one") == []


def test_what_others_named_in_a_similar_way_is_not_taken_for_ours(case: Case) -> None:
    ours = case.spec()
    old = replace(case.spec(), object_name=f"{case.spec().object_name}_7")
    # An underscore stands for any character in patterns.
    longer, *others = (
        case.backend.plan(prefix, Owner("70", "1", None), case.type, ours.credentials_id, "one")
        for prefix in (f"{case.prefix}c_", f"{case.prefix[:-1]}x")
    )
    everything = (ours, old, longer, *others)
    for spec in everything:
        case.make_foreign_object(spec)
    known = {
        one.name: one.spec and one.spec.object_name
        for one in case.backend.inventory(case.prefix, "one")
    }
    assert known == {
        ours.object_name: ours.object_name,
        old.object_name: None,
        longer.object_name: None,
    }
    listed = {one.name for one in case.backend.inventory("", "one")}
    assert not listed & {spec.object_name for spec in everything}
    for spec in everything:
        assert case.foreign_object_survives(spec)


# Leases ---------------------------------------------------------------------------------


def test_a_holder_whose_claim_ran_out_changes_nothing(case: Case) -> None:
    missing = case.spec()
    with pytest.raises(ClaimLost):
        case.backend.create(missing, generate_password(), lease(seconds=-1))
    assert case.remains(missing) == []
    spec, password = case.made()
    for verb in (case.backend.drop, case.backend.kill):
        with pytest.raises(ClaimLost):
            verb(spec, lease(seconds=-1))
    with case.session(spec, password):
        pass


def test_a_stale_holders_session_on_the_server_is_ended(locking_case: Case) -> None:
    spec, _ = locking_case.made()
    stale = locking_case.hold_lock(spec)
    locking_case.backend.drop(spec, lease())
    with pytest.raises(locking_case.error):
        query(stale, "SELECT 1")
    assert locking_case.remains(spec) == []


def test_a_server_that_is_not_configured_is_unavailable(case: Case) -> None:
    with pytest.raises(EngineUnavailable):
        case.backend.exists(replace(case.spec(), server="gone"))


def test_check_finds_the_server_well(case: Case) -> None:
    (health,) = case.backend.check()
    assert health.alive, health.message
