"""The clouds' file servers: each takes only requests that carry what it gave out.

The checks follow the documents of the three providers, not the client under test.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from tests.support.storage_simulator.replies import Repeated, Reply
from tests.support.storage_simulator.server import Request, SimulatedServer

REGION = "eu-central-1"
ACCOUNT = "kbcfsdxcgtsezztoqc"
#: How far the clock of a signer may be off.
SKEW = timedelta(minutes=15)

Content = bytes | Repeated


@dataclass
class Grants:
    """What was given out so far and still opens something."""

    #: Signatures of single addresses, by path.
    presigned: dict[str, set[str]] = field(default_factory=dict)
    #: Secret and session token by access key.
    amazon: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Signatures by container.
    azure: dict[str, list[list[tuple[str, str]]]] = field(default_factory=dict)
    google: set[str] = field(default_factory=set)


class FileServer(SimulatedServer):
    """Holds objects in buckets, whose names begin with their provider's."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: list[str] = []
        self._objects: dict[str, Content] = {}
        self._grants = Grants()

    def put(self, bucket: str, key: str, content: Content) -> None:
        self._objects[f"/{bucket}/{key}"] = content

    def expire(self) -> None:
        """Refuse from now on whatever was given out until now."""
        self._grants = Grants()

    # What the Storage API tells of a file ---------------------------------------------

    def describe(self, bucket: str, key: str, read_key: str) -> dict[str, Any]:
        """Return the part of a file's details that lets its owner read it.

        ``read_key`` is the file itself, or the manifest of a sliced one.
        """
        provider = bucket.partition("-")[0]
        grant = {"aws": self._grant_amazon, "azure": self._grant_azure, "gcp": self._grant_google}
        return {
            "url": f"{self.url}/{bucket}/{read_key}?{self._presign(provider, bucket, read_key)}",
            "provider": provider,
            "region": REGION,
            **grant[provider](bucket, key),
        }

    def slice_url(self, bucket: str, key: str) -> str:
        """Return the address of a slice in the form of its provider's manifests."""
        forms = {
            "aws": f"s3://{bucket}/{key}",
            "azure": f"azure://{ACCOUNT}.blob.core.windows.net/{bucket}/{key}",
            "gcp": f"gs://{bucket}/{key}",
        }
        return forms[bucket.partition("-")[0]]

    def _presign(self, provider: str, bucket: str, key: str) -> str:
        signature = self._secret()
        self._grants.presigned.setdefault(f"/{bucket}/{key}", set()).add(signature)
        forms = {
            "aws": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature=",
            "azure": "sv=2017-11-09&sr=b&sp=r&sig=",
            "gcp": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Expires=3600&X-Goog-Signature=",
        }
        return forms[provider] + signature

    def _grant_amazon(self, bucket: str, key: str) -> dict[str, Any]:
        access_key = f"ASIA{secrets.token_hex(8).upper()}"
        # As real ones do, the two contain what needs care in headers and addresses.
        secret, session = f"{self._secret()}/+", f"{self._secret()}//+=="
        self._grants.amazon[access_key] = (secret, session)
        return {
            "s3Path": {"bucket": bucket, "key": key},
            "credentials": {
                "AccessKeyId": access_key,
                "SecretAccessKey": secret,
                "SessionToken": session,
                "Expiration": "2030-01-01T00:00:00+0000",
            },
        }

    def _grant_azure(self, bucket: str, key: str) -> dict[str, Any]:
        query = f"sv=2017-11-09&sr=c&sp=rl&se=2030-01-01T00:00:00Z&sig={self._secret()}%2Fx%3D"
        self._grants.azure.setdefault(bucket, []).append(parse_qsl(query))
        connection = f"BlobEndpoint={self.url};SharedAccessSignature={query}"
        return {
            "absPath": {"container": bucket, "name": key, "accountName": ACCOUNT},
            "absCredentials": {"SASConnectionString": connection, "expiration": "2030-01-01"},
        }

    def _grant_google(self, bucket: str, key: str) -> dict[str, Any]:
        token = f"ya29.{self._secret()}"
        self._grants.google.add(token)
        return {
            "gcsPath": {"bucket": bucket, "key": key},
            "gcsCredentials": {
                "projectId": "kbc",
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": 3599,
            },
        }

    def _secret(self) -> str:
        self.secrets.append(secrets.token_hex(16))
        return self.secrets[-1]

    # What it takes --------------------------------------------------------------------

    def respond(self, request: Request) -> Reply:
        if "X-StorageApi-Token" in request.headers:
            return Reply(500, raw=b"The token was sent to a file server.")
        refusal = self._refusal(request)
        if refusal:
            return Reply(403, raw=refusal.encode(), headers={"Content-Type": "application/xml"})
        if request.path not in self._objects:
            return Reply(404, raw=b"<Error><Code>NoSuchKey</Code></Error>")
        return Reply(
            raw=self._objects[request.path], headers={"Content-Type": "binary/octet-stream"}
        )

    def _refusal(self, request: Request) -> str:
        """Return why the request may not read, or ''."""
        if self._is_presigned(request):
            return ""
        bucket = request.path.split("/")[1]
        checks = {
            "aws": self._refuse_amazon,
            "azure": self._refuse_azure,
            "gcp": self._refuse_google,
        }
        check = checks.get(bucket.partition("-")[0])
        return check(request, bucket) if check else "<Error><Code>AccessDenied</Code></Error>"

    def _is_presigned(self, request: Request) -> bool:
        known = self._grants.presigned.get(request.path, set())
        names = ("X-Amz-Signature", "X-Goog-Signature", "sig")
        return any(request.one(name) in known for name in names)

    def _refuse_azure(self, request: Request, bucket: str) -> str:
        good = request.query in self._grants.azure.get(bucket, [])
        return "" if good else "<Error><Code>AuthenticationFailed</Code></Error>"

    def _refuse_google(self, request: Request, bucket: str) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        good = scheme == "Bearer" and token in self._grants.google and not request.query
        return "" if good else "<Error><Code>AccessDenied</Code></Error>"

    def _refuse_amazon(self, request: Request, bucket: str) -> str:
        try:
            problem = self._check_signature(request)
        except (AttributeError, KeyError, ValueError):
            problem = "AuthorizationHeaderMalformed"
        return f"<Error><Code>{problem}</Code></Error>" if problem else ""

    def _check_signature(self, request: Request) -> str:
        algorithm, _, rest = request.headers["Authorization"].partition(" ")
        fields = dict(part.strip().split("=", 1) for part in rest.split(","))
        access_key, day, region, service, end = fields["Credential"].split("/")
        secret, session = self._grants.amazon[access_key]
        names, moment = fields["SignedHeaders"], request.headers["x-amz-date"]
        sent = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if request.query or abs(datetime.now(UTC) - sent) > SKEW or not moment.startswith(day):
            return "RequestTimeTooSkewed"
        needed = {"host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"}
        if (
            not needed <= set(names.split(";"))
            or request.headers["x-amz-security-token"] != session
        ):
            return "InvalidToken"
        if (algorithm, region, service, end) != ("AWS4-HMAC-SHA256", REGION, "s3", "aws4_request"):
            return "AuthorizationHeaderMalformed"
        expected = self._signature(request, names, secret, day, moment)
        return "" if hmac.compare_digest(expected, fields["Signature"]) else "SignatureDoesNotMatch"

    def _signature(self, request: Request, names: str, secret: str, day: str, moment: str) -> str:
        canonical = [request.method, request.target, ""]
        for name in names.split(";"):
            canonical.append(f"{name}:{request.headers[name].strip()}")
        canonical += ["", names, request.headers["x-amz-content-sha256"]]
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        key = f"AWS4{secret}".encode()
        for part in (day, REGION, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{day}/{REGION}/s3/aws4_request\n{digest}"
        return hmac.new(key, text.encode(), "sha256").hexdigest()
