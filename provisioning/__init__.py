"""The domain: credentials, jobs and what makes and removes them.

It imports neither flask nor celery.
"""
