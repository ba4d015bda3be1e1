"""The queue: recording, claiming, scheduling and the outcomes of jobs."""
