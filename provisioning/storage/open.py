"""The storage that the configuration names."""

from pathlib import Path

from provisioning.config import Config
from provisioning.storage.base import Storage
from provisioning.vault import Secret


def open_storage(config: Config, token: Secret, run_id: str) -> Storage | None:
    """Return the storage of a job's owner, or None where none is configured.

    The Storage API sees the token and the job's run id. What only one of the two needs is
    imported here: fronts and SQL workers need neither.
    """
    if config["STORAGE_API_URL"]:
        from provisioning.storage.keboola import KeboolaStorage
        from provisioning.storage.retries import Patience

        patience = Patience(retries=min(config["JOB_RETRY_SECONDS"], Patience.retries))
        return KeboolaStorage(config["STORAGE_API_URL"], token, run_id, patience)
    if config["STORAGE_DIRECTORY"]:
        from provisioning.storage.directory import DirectoryStorage

        return DirectoryStorage(Path(config["STORAGE_DIRECTORY"]))
    return None
