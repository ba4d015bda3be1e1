"""Where tables, files and configurations come from (contract sections 8 and 12)."""
