"""The tree of errors: each has a status, and stands in the picture of the tree."""

from collections.abc import Iterator

from api.errors import STATUS, status_of
from provisioning import errors


def below(kind: type[errors.ProvisioningError]) -> Iterator[type[errors.ProvisioningError]]:
    for found in kind.__subclasses__():
        yield found
        yield from below(found)


def test_every_reason_has_a_status() -> None:
    kinds = set(below(errors.ProvisioningError)) - {errors.TokenRefused}
    assert {kind.reason for kind in kinds} | {errors.ProvisioningError.reason} == set(STATUS)


def test_an_error_of_the_token_service_has_its_own_status() -> None:
    assert status_of(errors.TokenRefused(418, "no")) == 418


def test_the_tree_in_the_documentation_is_the_one_in_the_code() -> None:
    tree = (errors.__doc__ or "").partition("ProvisioningError\n")[2]
    shown = [line.strip() for line in tree.splitlines() if "#" not in line and line.strip()]
    kinds = [one for one in below(errors.ProvisioningError) if one.__module__ == errors.__name__]
    assert shown == [kind.__name__ for kind in kinds]
