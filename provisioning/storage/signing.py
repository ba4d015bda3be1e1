"""Signature version 4 of Amazon's services, for reading one object.

The ready-made signers come with a client of all of Amazon's services, for these few lines.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from provisioning.configuration.secrets import Secret

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_BODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class AmazonKey:
    """A key and the region where it is used."""

    id: str
    secret: Secret
    region: str


def sign_get(url: str, headers: Mapping[str, str], key: AmazonKey, now: datetime) -> dict[str, str]:
    """Return ``headers``, whose names are in lower case, with those that sign a GET from S3.

    ``url`` has a quoted path and no query; ``now`` is in UTC.
    """
    place = urlsplit(url)
    moment = f"{now:%Y%m%dT%H%M%SZ}"
    signed = {
        "host": place.netloc,
        "x-amz-content-sha256": EMPTY_BODY,
        "x-amz-date": moment,
        **headers,
    }
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = f"GET\n{place.path}\n\n{lines}\n{names}\n{EMPTY_BODY}"
    scope = f"{moment[:8]}/{key.region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{ALGORITHM}\n{moment}\n{scope}\n{digest}"
    signature = hmac.new(_derive(key.secret, scope), text.encode(), "sha256").hexdigest()
    signed["authorization"] = (
        f"{ALGORITHM} Credential={key.id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed


def _derive(secret: Secret, scope: str) -> bytes:
    derived = f"AWS4{secret.reveal()}".encode()
    for part in scope.split("/"):
        derived = hmac.new(derived, part.encode(), "sha256").digest()
    return derived
