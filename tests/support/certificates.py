"""Certificates of one authority, as an installation's sandboxes have them."""

from provisioning.backends.docker import Certificate, issue_certificate, make_authority

AUTHORITY = make_authority()


def make_certificate(hosts: list[str]) -> Certificate:
    """Return a new certificate for hosts."""
    return issue_certificate(AUTHORITY, hosts)
