"""Whether an engine can make sandboxes, and what it does not enforce, in an operator's words."""

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from cryptography import x509

from provisioning.backends.base import EngineError, Health
from provisioning.backends.docker.certificate import read_certificate
from provisioning.backends.docker.engine import Engine
from provisioning.backends.docker.images import SANDBOX_TYPES
from provisioning.configuration.servers import DockerServer

#: What `docker info` says of a limit, and the limit.
_LIMITS = {"MemoryLimit": "memory", "CpuCfsQuota": "CPU", "PidsLimit": "process"}
#: Storage drivers with quotas of their own; overlay2 has them on XFS that is mounted so.
_QUOTA_DRIVERS = ("btrfs", "zfs", "devicemapper")


def check_engine(engine: Engine) -> Health:
    """Look whether the engine answers, has the images, and enforces the limits."""
    config = engine.config
    try:
        info = engine.describe()
        missing = [
            image
            for image in (config.image(type_) for type_ in SANDBOX_TYPES if config.takes(type_))
            if not engine.has_image(image)
        ]
    except EngineError as problem:
        return Health(config.name, False, str(problem.args[0]))
    if missing:
        commands = "; ".join(f"docker pull {image}" for image in missing)
        return Health(config.name, False, f"an image is missing, build it there or run: {commands}")
    if flaw := _certificate_flaw(config):
        return Health(config.name, False, flaw)
    notes = [f"Docker {info['ServerVersion']}", f"ports {config.ports}", *_notes(config, info)]
    return Health(config.name, True, "; ".join(notes))


def _notes(config: DockerServer, info: dict[str, Any]) -> Iterator[str]:
    for key, limit in _LIMITS.items():
        if not info.get(key):
            yield f"the {limit} limit is not enforced: its control group is missing"
    if config.disk_gb:
        yield _disk_note(info)
    if config.address.startswith("tcp:") and not config.tls_ca:
        yield "the engine is spoken to without TLS"


def _disk_note(info: dict[str, Any]) -> str:
    driver = info["Driver"]
    beneath = dict(info.get("DriverStatus") or ()).get("Backing Filesystem", "")
    if driver in _QUOTA_DRIVERS:
        return "the disk limit is enforced"
    if (driver, beneath) == ("overlay2", "xfs"):
        return "the disk limit is enforced if the file system is mounted with pquota"
    where = f"{driver} on {beneath}" if beneath else driver
    return f"the disk limit is not enforced: {where} has no quotas"


def _certificate_flaw(config: DockerServer) -> str | None:
    """Return what callers would find wrong with the operator's certificate."""
    if not config.https or not config.tls_certificate:
        return None
    try:
        pair = read_certificate(config.tls_certificate, config.tls_private_key)
        certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
    except (OSError, ValueError) as problem:
        return f"tls_certificate cannot be read: {problem}"
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        return "tls_certificate has expired"
    if not _covers(certificate, config.public_host):
        return f"tls_certificate is not for {config.public_host}"
    return None


def _covers(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    wildcard = "*." + host.partition(".")[2]
    known = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return host.lower() in known or wildcard.lower() in known
