"""The list of jobs: its conditions, its query language, and how they become SQL (9.3)."""
