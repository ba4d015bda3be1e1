"""Names that Storage or a caller gave become files (contract 8.3)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.sandbox.names import find_clash, manifest_name, plain_name_problem, safe_name

NAMES = st.text(st.characters(exclude_categories=[]), max_size=300) | st.sampled_from(
    ["", ".", "..", "...", "../../etc/passwd", "a\\b", "\ud800", "é" * 200, "a\nb\x7f\x85"]
)


def test_what_is_safe_stays_as_it_is() -> None:
    for name in ("orders.csv.gz", "été 2019", "a:b", "-x", "...x", "🙂"):
        assert safe_name(name) == name


def test_separators_and_control_characters_become_underscores() -> None:
    assert safe_name("../../etc/passwd") == ".._.._etc_passwd"
    assert safe_name("a\\b\nc\x00d\x7f\x85") == "a_b_c_d__"
    assert safe_name("..") == "__"


@settings(deadline=None)
@given(NAMES)
def test_a_safe_name_and_its_manifest_are_names_of_files(text: str) -> None:
    name = safe_name(f"5_{text}")
    assert plain_name_problem(name) is None
    manifest = manifest_name(name)
    assert manifest is not None and len(manifest.encode()) <= 255
    if text:
        assert plain_name_problem(safe_name(text)) is None


def test_a_name_that_leaves_no_room_has_no_manifest() -> None:
    assert manifest_name("x" * 246) == "x" * 246 + ".manifest"
    assert manifest_name("x" * 247) is None
    assert manifest_name("é" * 123) is not None
    assert manifest_name("é" * 124) is None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "a.manifest", "a.manifest.manifest", "c"]), max_size=4))
def test_names_without_a_clash_have_files_and_manifests_of_their_own(names: list[str]) -> None:
    paths = [path for name in names for path in (name, f"{name}.manifest")]
    assert (find_clash(names) is None) == (len(set(paths)) == len(paths))
