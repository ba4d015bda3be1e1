"""The storage that the configuration names."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from provisioning.configuration.config import Config
from provisioning.configuration.secrets import Secret
from provisioning.storage.base import Storage

#: Seconds between two looks at whether to go on, in the midst of a pause.
LOOK_SECONDS = 0.5


def open_storage(
    config: Config, token: Secret, run_id: str, check: Callable[[], None]
) -> Storage | None:
    """Return the storage of a job's owner, or None where none is configured.

    The Storage API sees the token and the job's run id. ``check`` raises when the job is to
    stop; it is called in pauses, which may last for minutes. What only one of the two needs
    is imported here: fronts and SQL workers need neither.
    """
    if config.storage_api_url:
        from provisioning.storage.keboola import KeboolaStorage
        from provisioning.storage.retries import Timeouts

        timeouts = Timeouts(retries=min(config.job_retry_seconds, Timeouts.retries))
        pause = partial(_pause, check)
        return KeboolaStorage(config.storage_api_url, token, run_id, timeouts, pause)
    if config.storage_directory:
        from provisioning.storage.directory import DirectoryStorage

        return DirectoryStorage(Path(config.storage_directory))
    return None


def _pause(check: Callable[[], None], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, LOOK_SECONDS))
