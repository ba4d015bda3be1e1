"""A simulator of Snowflake's connector protocol, for development and tests.

It is no Snowflake: it answers the official Python connector over plain HTTP on loopback, keeps
users, roles, rights and sessions in memory, and runs table statements on an embedded DuckDB.

What a caller could trip over, because the real server does it differently:

- Everything happens at once. On the real server ACCOUNT_USAGE lags by up to hours
  (`SnowflakeSimulator.delay_account_usage` imitates that) and user DDL takes seconds.
- A warehouse computes nothing; it only has to be there, granted and selected.
- Network, authentication and password policies do not exist, apart from the default rule for
  new passwords. The real server wants a network policy before a service user gets a token.
- Whole numbers in tables hold 64 bits, VARIANT is JSON, and names of columns that differ in
  case only collide. A failed statement spoils the transaction that it is part of.
- Temporary tables are visible to other sessions until their own ends.
- Stages, procedures, tasks, AUTOINCREMENT and INSERT OVERWRITE are refused with 000002 or 001003.
"""

from snowflake_simulator.simulator import SnowflakeSimulator

__all__ = ["SnowflakeSimulator"]
