"""What all tables have in common: those that the models describe and those that migrations make."""

from typing import Any

#: MySQL compares text without case by default; ids, slots and types are case-sensitive.
TABLE_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
