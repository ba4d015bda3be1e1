"""Names and values of the limits of what a project has at once."""

import pytest

from provisioning.configuration.quota_limits import LIMITS, Defaults, limits_in_force, read_defaults


def test_each_limit_is_of_a_project_or_a_token_and_hard_or_soft() -> None:
    whats = ["credentials", "containers", "memoryMb"]
    whats += [f"credentials.{b}" for b in ("mysql", "snowflake", "redshift-workspace")]
    whats.append("credentials.postgresql")
    starts = ("provisioning.", "provisioning.token.")
    expected = {
        f"{start}{what}{end}" for start in starts for what in whats for end in ("", ".soft")
    }
    assert set(LIMITS) == expected


def test_defaults_are_read_and_printed_as_they_are_written() -> None:
    text = "credentials=100,credentials.soft=80,token.containers=2,credentials.mysql=5"
    read = read_defaults(text.replace(",", " , ").replace("=", " = "))
    assert read["provisioning.token.containers"] == 2
    assert str(read) == text
    assert read_defaults("") == Defaults() and str(Defaults()) == ""
    assert read_defaults("containers=0,memoryMb=1") == {"provisioning.memoryMb": 1}


@pytest.mark.parametrize(
    "text",
    ["container=1", "credentials.docker=1", "credentials", "credentials=-1", "credentials=²"],
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        read_defaults(text)


def test_what_the_project_is_told_goes_before_the_default() -> None:
    defaults = read_defaults("credentials=5,containers=1")
    told = {"provisioning.credentials": 7, "provisioning.other": 1, "sandbox.expirationSeconds": 9}
    assert limits_in_force(defaults, told) == {
        "provisioning.credentials": 7,
        "provisioning.containers": 1,
    }
    assert limits_in_force(Defaults(), {"sandbox.expirationSeconds": 9}) == {}
