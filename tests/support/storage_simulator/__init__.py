"""A simulator of the Storage API and of the clouds' file servers, over real HTTP."""

from tests.support.storage_simulator.contents import Table
from tests.support.storage_simulator.file_server import FileServer
from tests.support.storage_simulator.replies import Repeated, Reply
from tests.support.storage_simulator.server import Request
from tests.support.storage_simulator.simulator import StorageSimulator, simulated_storage
from tests.support.storage_simulator.tokens import Ticket, token_details

__all__ = [
    "FileServer",
    "Repeated",
    "Reply",
    "Request",
    "StorageSimulator",
    "Table",
    "Ticket",
    "simulated_storage",
    "token_details",
]
