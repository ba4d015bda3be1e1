"""Signatures against the published example of the provider's own documents."""

from datetime import UTC, datetime

from provisioning.configuration.secrets import Secret
from provisioning.storage.signing import AmazonKey, sign_get


def test_the_documents_example_is_signed_as_it_says() -> None:
    secret = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    headers = sign_get(
        "https://examplebucket.s3.amazonaws.com/test.txt",
        {"range": "bytes=0-9"},
        AmazonKey("AKIAIOSFODNN7EXAMPLE", secret, "us-east-1"),
        datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
