"""Sandboxes in Docker containers."""

from provisioning.backends.docker.backend import DockerBackend
from provisioning.backends.docker.certificate import Certificate, issue_certificate, make_authority

__all__ = ["Certificate", "DockerBackend", "issue_certificate", "make_authority"]
