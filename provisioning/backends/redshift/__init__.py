"""Redshift, and PostgreSQL in its place."""

from provisioning.backends.redshift.backend import RedshiftBackend

__all__ = ["RedshiftBackend"]
