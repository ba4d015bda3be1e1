"""Which installation a name on a MySQL server is of, by the name alone."""

from hypothesis import assume, example, given
from hypothesis import strategies as st

from provisioning.backends.base import Owner, Spec
from provisioning.backends.mysql import MySQLBackend
from provisioning.backends.mysql.inventory import NameReader
from provisioning.backends.naming import bears_prefix
from tests.backends.case import NO_LIMITS, lock_secret

BACKEND = MySQLBackend((), NO_LIMITS, 1, 1, lock_secret=lock_secret)
IDS = st.integers(1, 10**18 - 1)
PREFIXES = st.text("abtsduren_1", min_size=1, max_size=8) | st.sampled_from(
    ["ab_", "ab_sand_", "ab_tran_", "ab_user_", "ab_tran_", "ab_tran1", "ab_user"]
)
OWNERS = st.builds(
    Owner,
    st.integers(1, 10**6).map(str),
    st.integers(1, 10**9).map(str),
    st.none() | st.integers(1, 10**9).map(str) | st.sampled_from(["ann", "bob_smith", "t5"]),
)
TYPES = st.sampled_from(["sandbox", "transformations"])


def plan(prefix: str, owner: Owner, type_: str, number: int) -> Spec:
    return BACKEND.plan(prefix, owner, type_, number, "one")


@given(PREFIXES, OWNERS, TYPES, IDS)
def test_our_own_names_are_read_as_what_they_are(
    prefix: str, owner: Owner, type_: str, number: int
) -> None:
    spec = plan(prefix, owner, type_, number)
    names = NameReader("one", prefix)
    assert names.database(spec.object_name, spec.user_name).spec == spec
    login = names.login(spec.user_name, "%").spec
    # A name that had to be cut is nobody's.
    if len(spec.user_name) < 31:
        assert login is not None and login.user_name == spec.user_name
        assert login.credentials_id == (0 if type_ == "sandbox" else number)


@given(PREFIXES, PREFIXES, OWNERS, TYPES, IDS)
@example("ab_", "ab_sand_", Owner("70", "1", "4"), "sandbox", 5)
@example("ab_", "ab_tran_", Owner("70", "1", "4"), "sandbox", 5)
@example("x", "xtran_1", Owner("70", "1", "4"), "sandbox", 5)
def test_names_of_an_installation_whose_prefix_starts_like_ours_are_not_ours(
    ours: str, theirs: str, owner: Owner, type_: str, number: int
) -> None:
    assume(ours != theirs)
    spec = plan(theirs, owner, type_, number)
    names = NameReader("one", ours)
    if bears_prefix(spec.object_name, ours):
        assert names.database(spec.object_name, None).spec is None
    if bears_prefix(spec.user_name, ours):
        assert names.login(spec.user_name, "%").spec is None
