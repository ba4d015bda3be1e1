"""MySQL and MariaDB."""

from provisioning.backends.mysql.backend import MySQLBackend

__all__ = ["MySQLBackend"]
