"""Parts of files from the clouds: how they are asked for, and what may go wrong on the way."""

import errno
import gzip
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from provisioning.configuration.secrets import Secret
from provisioning.storage.base import StorageRefused, StorageUnavailable, TableQuery
from provisioning.storage.clouds import slice_address
from provisioning.storage.keboola import KeboolaStorage
from tests.storage.case import PATIENCE, RUN_ID, KeboolaCase, download, export, no_pause
from tests.support.deadlines import DEADLINE, ENDLESS
from tests.support.storage_simulator import Repeated, Reply, StorageSimulator, Table
from tests.support.storage_simulator.contents import Row
from tests.support.storage_simulator.server import Change

PROVIDERS = ["aws", "azure", "gcp"]
PARTS = [b"a" * 3000, b"b" * 100_000, b"c"]
TABLE = "in.c-main.people"


@pytest.fixture(params=PROVIDERS)
def case(request: pytest.FixtureRequest, simulator: StorageSimulator, token: str) -> KeboolaCase:
    return KeboolaCase(simulator, token, request.param)


@pytest.fixture
def one_case(simulator: StorageSimulator, token: str) -> KeboolaCase:
    """A case for what does not depend on the cloud."""
    return KeboolaCase(simulator, token)


def hurried(case: KeboolaCase, **bounds: float) -> KeboolaStorage:
    patience = replace(PATIENCE, **bounds)
    return KeboolaStorage(case.simulator.url, Secret(case.token), RUN_ID, patience, no_pause)


# Access -----------------------------------------------------------------------------------

#: What may be wrong with a file's details, for each cloud.
SPOILED: dict[str, Callable[[dict[str, Any]], None]] = {
    "aws-secret": lambda details: details["credentials"].update(SecretAccessKey="wrong"),
    "aws-token": lambda details: details["credentials"].update(SessionToken="wrong"),
    "aws-region": lambda details: details.update(region="us-west-1"),
    "azure-signature": lambda details: details["absCredentials"].update(
        SASConnectionString=details["absCredentials"]["SASConnectionString"][:-4]
    ),
    "gcp-token": lambda details: details["gcsCredentials"].update(access_token="wrong"),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_wrong_credentials_are_renewed_once_and_then_refused(
    simulator: StorageSimulator, token: str, spoiled: str
) -> None:
    case = KeboolaCase(simulator, token, spoiled.partition("-")[0])
    file_id = case.add_file("data", PARTS)

    def spoil(reply: Reply) -> Reply:
        SPOILED[spoiled](reply.body)
        return reply

    simulator.disturb("files/", spoil)
    assert download(case.storage(), file_id, 1) == PARTS[1]
    simulator.disturb("files/", spoil, spoil)
    with pytest.raises(StorageRefused, match=f"File {file_id} may not be read"):
        download(case.storage(), file_id, 1)


def test_access_that_ran_out_is_renewed_once_for_all_parts(case: KeboolaCase) -> None:
    file_id = case.add_file("data", PARTS)
    storage = case.storage()
    details = storage.file_details(file_id)
    assert storage.count_parts(details) == 3
    case.simulator.files.expire()
    for number, part in enumerate(PARTS):
        target = io.BytesIO()
        storage.download_part(details, number, target)
        assert target.getvalue() == part
    assert len(case.simulator.asked("files/")) == 2


def test_an_address_that_ran_out_is_renewed(case: KeboolaCase) -> None:
    file_id = case.add_file("data", b"in one piece")
    storage = case.storage()
    details = storage.file_details(file_id)
    case.simulator.files.expire()
    target = io.BytesIO()
    storage.download_part(details, 0, target)
    assert target.getvalue() == b"in one piece"


@pytest.mark.parametrize(
    "entry",
    [
        "s3://other-bucket/key",
        "gs://other-bucket/key",
        "azure://account.blob.core.windows.net/other-container/key",
        "https://elsewhere.example.com/aws-files/key",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "aws-files/key",
        "",
        "{home}../../other-bucket/key",
        "{home}./key",
    ],
)
def test_a_part_outside_of_the_files_bucket_is_refused(case: KeboolaCase, entry: str) -> None:
    file_id = case.add_file("data", PARTS)
    home = case.simulator.files.slice_url(f"{case.provider}-files", "")
    manifest = {"entries": [{"url": entry.format(home=home)}]}
    case.simulator.files.disturb("manifest", lambda _: Reply(body=manifest))
    with pytest.raises(StorageRefused, match="not where the file is"):
        download(case.storage(), file_id)
    assert len(case.simulator.files.requests) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"entries": [{}]}', b'{"entries": 1}'])
def test_a_list_of_parts_that_is_none_is_refused(one_case: KeboolaCase, content: bytes) -> None:
    file_id = one_case.add_file("data", PARTS)
    one_case.simulator.files.disturb("manifest", lambda _: Reply(raw=content))
    with pytest.raises(StorageRefused, match=f"File {file_id} has no list of its parts"):
        one_case.storage().count_parts(one_case.storage().file_details(file_id))


def test_a_part_may_have_a_signed_address_of_its_own(case: KeboolaCase) -> None:
    signed = case.storage().file_details(case.add_file("part", b"signed part"))["url"]
    file_id = case.add_file("data", PARTS)
    manifest = {"entries": [{"url": signed}]}
    case.simulator.files.disturb("manifest", lambda _: Reply(body=manifest))
    assert download(case.storage(), file_id) == b"signed part"


@pytest.mark.parametrize("key", ["s3Path", "credentials", "url"])
def test_details_that_tell_too_little_are_no_data(one_case: KeboolaCase, key: str) -> None:
    file_id = one_case.add_file("data", PARTS)
    details = one_case.storage().file_details(file_id)
    del details[key]
    with pytest.raises(StorageUnavailable, match="too little"):
        one_case.storage().download_part(details, 0, io.BytesIO())


@pytest.mark.parametrize(
    ("url", "root"),
    [
        (
            "https://s3.amazonaws.com/kbc-files/exp/manifest?X-Amz-Date=1",
            "s3.amazonaws.com/kbc-files",
        ),
        ("https://kbc-files.s3.eu-central-1.amazonaws.com/exp/manifest", ""),
    ],
)
def test_a_bucket_is_in_the_path_or_in_the_hosts_name(url: str, root: str) -> None:
    details = {
        "url": url,
        "s3Path": {"bucket": "kbc-files", "key": "exp/"},
        "credentials": {"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c"},
    }
    address = slice_address(details, "s3://kbc-files/exp/part 0")
    root = root or "kbc-files.s3.eu-central-1.amazonaws.com"
    assert address.url == f"https://{root}/exp/part%200"
    assert "/us-east-1/s3/" in address.headers["authorization"]
    assert "Secret" not in repr(address)
    assert "exp" not in repr(address)


# Interruptions ----------------------------------------------------------------------------

FAULTS: dict[str, Change] = {
    "cut": lambda reply: replace(reply, cut=50_000),
    "cut in a longer one": lambda _: Reply(raw=b"y" * 600_000, cut=500_000),
    "cut at the start": lambda reply: replace(reply, cut=0),
    "cut in chunks": lambda reply: replace(reply, cut=50_000, chunked=True),
    "gone": lambda reply: replace(reply, hang_up=True),
    "500": lambda _: Reply(500),
    "slow down": lambda _: Reply(503, raw=b"<Error><Code>SlowDown</Code></Error>"),
    "too many": lambda _: Reply(429),
    "redirect": lambda _: Reply(307, headers={"Location": "/"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_interrupted_part_starts_anew(one_case: KeboolaCase, fault: str) -> None:
    content = bytes(range(256)) * 1000
    file_id = one_case.add_file("data", [b"", content])
    one_case.simulator.files.disturb("0001", *[FAULTS[fault]] * 3)
    target = io.BytesIO()
    target.write(b"before")
    storage = one_case.storage()
    storage.download_part(storage.file_details(file_id), 1, target)
    assert target.getvalue() == b"before" + content
    assert len(one_case.simulator.files.asked("0001")) == 4


def test_an_interrupted_export_has_each_row_once(case: KeboolaCase) -> None:
    rows: list[Row] = [[str(number), "x" * 50] for number in range(3000)]
    case.simulator.add_table(Table(TABLE, ["id", "x"], rows, slices=3, provider=case.provider))
    for number in range(3):
        case.simulator.files.disturb(f"000{number}", lambda reply: replace(reply, cut=5_000))
    lines = export(case.storage(), TableQuery(TABLE)).splitlines()
    assert lines == ['"id","x"', *(f'"{number}","{"x" * 50}"' for number in range(3000))]


def test_a_part_that_never_arrives_is_given_up(one_case: KeboolaCase) -> None:
    file_id = one_case.add_file("data", b"x" * 100_000)
    one_case.simulator.files.disturb("data", *[FAULTS["cut"]] * 100)
    with pytest.raises(StorageUnavailable, match=f"File {file_id} stopped arriving"):
        download(hurried(one_case, retries=10), file_id)


@pytest.mark.parametrize("speed", [{"drip": 0.02}, {"delay": ENDLESS}])
def test_silence_and_trickle_end(one_case: KeboolaCase, speed: dict[str, float]) -> None:
    file_id = one_case.add_file("data", b"x" * 4000)
    one_case.simulator.files.disturb("data", *[lambda reply: replace(reply, **speed)] * 100)
    with pytest.raises(StorageUnavailable, match="stopped arriving"):
        download(hurried(one_case, idle=0.2, retries=0.6), file_id)


def test_no_silence_lasts_longer_than_the_time_for_retries(one_case: KeboolaCase) -> None:
    file_id = one_case.add_file("data", b"x")
    one_case.simulator.files.disturb("data", lambda reply: replace(reply, delay=ENDLESS))
    begin = time.monotonic()
    with pytest.raises(StorageUnavailable, match="stopped arriving"):
        download(hurried(one_case, idle=ENDLESS, retries=0.2), file_id)
    assert time.monotonic() - begin < DEADLINE


def test_a_slow_part_that_flows_is_no_silence(one_case: KeboolaCase) -> None:
    """It takes more than twice the longest silence."""
    content = Repeated(b"x" * 5000, 10)
    file_id = one_case.simulator.add_file("data", content)
    one_case.simulator.files.disturb("data", lambda reply: replace(reply, drip=0.15))
    assert download(hurried(one_case, idle=0.6), file_id) == b"x" * 50_000
    assert len(one_case.simulator.files.requests) == 1


@pytest.mark.parametrize("status", [404, 410, 416])
def test_a_part_that_is_gone_is_refused_at_once(one_case: KeboolaCase, status: int) -> None:
    file_id = one_case.add_file("data", b"x")
    one_case.simulator.files.disturb("data", lambda _: Reply(status))
    with pytest.raises(StorageRefused, match=f"File {file_id} is not there.*{status}"):
        download(one_case.storage(), file_id)


def test_a_full_disk_is_not_an_interruption(one_case: KeboolaCase) -> None:
    class FullDisk(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    file_id = one_case.add_file("data", b"x")
    storage = one_case.storage()
    with pytest.raises(OSError, match="No space left"):
        storage.download_part(storage.file_details(file_id), 0, FullDisk())
    assert len(one_case.simulator.files.requests) == 1


# Compression ------------------------------------------------------------------------------


def exported(case: KeboolaCase, *parts: bytes) -> str:
    case.simulator.add_table(Table(TABLE, ["id"], content=list(parts)))
    return export(case.storage(), TableQuery(TABLE))


def test_each_slice_of_an_export_may_be_compressed_or_not(one_case: KeboolaCase) -> None:
    members = gzip.compress(b'"2"\n') + gzip.compress(b"") + gzip.compress(b'"3"\n')
    text = exported(one_case, b'"1"\n', members, b"", gzip.compress(b""), b'"4"\n')
    assert text == '"id"\n"1"\n"2"\n"3"\n"4"\n'


def test_a_highly_compressed_slice_comes_out_whole(one_case: KeboolaCase) -> None:
    line = '"' + "x" * 99 + '"\n'
    text = exported(one_case, gzip.compress((line * 50_000).encode()))
    assert text == '"id"\n' + line * 50_000


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data[:20] + data[25:]])
def test_a_slice_that_is_not_whole_is_fetched_again(
    one_case: KeboolaCase, spoil: Callable[[bytes], bytes]
) -> None:
    good = gzip.compress(json.dumps(list(range(500))).encode())
    one_case.simulator.files.disturb("0000", *[lambda _: Reply(raw=spoil(good))] * 2)
    assert exported(one_case, good).startswith('"id"\n[0, 1, 2')
    one_case.simulator.files.disturb("0000", *[lambda _: Reply(raw=spoil(good))] * 100)
    with pytest.raises(StorageUnavailable, match="is not whole"):
        exported(one_case, good)
