"""Where the slices of a file are in the cloud that holds them, and how they may be read.

A manifest comes from the uploader of the file. So only a key is taken from it: the host is
the one that the Storage API named, and the bucket or container is the file's own.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from provisioning.configuration.secrets import Secret
from provisioning.storage.base import StorageRefused
from provisioning.storage.signing import AmazonKey, sign_get
from provisioning.storage.transfer import Address

#: The region of buckets that are not told to be elsewhere.
FIRST_REGION = "us-east-1"


def slice_address(details: Mapping[str, Any], entry: str) -> Address:
    """Return the address of a slice from a file's details and the manifest's ``url``.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` for incomplete details, and
    ``StorageRefused`` for a slice outside of the file's bucket.
    """
    if _origin(entry) == _origin(details["url"]) and ("absPath" not in details or "?" in entry):
        # A slice with an address of its own needs no credentials.
        return Address(entry)
    if "absPath" in details:
        return _azure(details, entry)
    if "gcsPath" in details:
        return _google(details, entry)
    return _amazon(details, entry)


def _amazon(details: Mapping[str, Any], entry: str) -> Address:
    bucket, given = details["s3Path"]["bucket"], details["credentials"]
    key = AmazonKey(
        given["AccessKeyId"],
        Secret(given["SecretAccessKey"]),
        details.get("region") or FIRST_REGION,
    )
    url = f"{_bucket_root(details['url'], bucket)}/{_key(entry, f's3://{bucket}/')}"
    token = {"x-amz-security-token": given["SessionToken"]}
    return Address(url, sign_get(url, token, key, datetime.now(UTC)))


def _google(details: Mapping[str, Any], entry: str) -> Address:
    bucket, given = details["gcsPath"]["bucket"], details["gcsCredentials"]
    url = f"{_bucket_root(details['url'], bucket)}/{_key(entry, f'gs://{bucket}/')}"
    return Address(url, {"Authorization": f"Bearer {given['access_token']}"})


def _azure(details: Mapping[str, Any], entry: str) -> Address:
    """The host in the entry is the account's, which the connection string names too."""
    container = details["absPath"]["container"]
    pairs = details["absCredentials"]["SASConnectionString"].split(";")
    connection = dict(pair.split("=", 1) for pair in pairs if pair)
    place = entry.removeprefix("azure://").removeprefix("https://")
    key = _key(place.partition("/")[2], f"{container}/")
    signature = connection["SharedAccessSignature"].removeprefix("?")
    return Address(f"{connection['BlobEndpoint'].rstrip('/')}/{container}/{key}?{signature}")


def _key(place: str, bucket: str) -> str:
    """Return the quoted key of a place that begins with ``bucket``."""
    key = place.removeprefix(bucket)
    if key == place or {".", ".."} & set(key.split("/")):
        raise StorageRefused("A part of a sliced file is not where the file is.")
    return quote(key, safe="/~")


def _bucket_root(url: str, bucket: str) -> str:
    """Return the address of a bucket from the file's own: in the host's name, or in the path."""
    place = urlsplit(url)
    if place.netloc.startswith(f"{bucket}."):
        return _origin(url)
    return f"{_origin(url)}/{bucket}"


def _origin(url: str) -> str:
    place = urlsplit(url)
    return f"{place.scheme}://{place.netloc}"
