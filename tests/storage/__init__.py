"""Storages of tables, files and configurations."""
