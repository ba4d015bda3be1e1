"""Celery workers and the beat. `wake` is the one line where the front meets Celery."""

from workers.messages import wake

__all__ = ["wake"]
