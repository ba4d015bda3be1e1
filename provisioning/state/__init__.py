"""The state database: tables, migrations, claims and events."""
