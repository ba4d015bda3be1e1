"""Celery workers and the beat. What is exported here is all that the front knows of Celery."""

from workers.messages import broker_answers, wake, wake_due

__all__ = ["broker_answers", "wake", "wake_due"]
