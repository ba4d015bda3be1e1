"""Snowflake."""

from provisioning.backends.snowflake.backend import SnowflakeBackend

__all__ = ["SnowflakeBackend"]
