"""Sandboxes in Docker containers."""

from provisioning.backends.docker.backend import DockerBackend
from provisioning.backends.docker.certificate import Certificate, make_certificate

__all__ = ["Certificate", "DockerBackend", "make_certificate"]
