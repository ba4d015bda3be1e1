"""Load balancers in front of a service, with the configurations that ship."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.executables import find_program
from devstack.ports import HOST, HeldPort, accepts_connections
from devstack.processes import Process, dying_with_parent
from tests.support.deadlines import wait_until
from tests.support.service import TREE

#: nginx's file goes into this.
NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{server}
}}
"""


@contextmanager
def balancing(program: str, fronts: list[int], directory: Path) -> Iterator[int]:
    """Run nginx or HAProxy before two fronts for a block, and give its port."""
    port = HeldPort()
    configure = {"nginx": _nginx, "haproxy": _haproxy}[program]
    directory.mkdir()
    process = Process(program, directory / f"{program}.log")
    process.start(dying_with_parent(configure(directory, port.number, fronts)), directory=directory)
    try:
        wait_until(lambda: accepts_connections(port.number), what=program)
        yield port.number
    finally:
        process.kill()
        port.release()


def _nginx(directory: Path, port: int, fronts: list[int]) -> list[str]:
    server = _shipped("nginx.conf", fronts)
    server = re.sub(r"listen .*;", f"listen {HOST}:{port};", server)
    server = re.sub(r" *ssl_certificate.*;\n", "", server)
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(server=server))
    return [find_program("nginx") or "nginx", "-p", str(directory), "-c", str(file)]


def _haproxy(directory: Path, port: int, fronts: list[int]) -> list[str]:
    text = re.sub(r"bind .*", f"bind {HOST}:{port}", _shipped("haproxy.cfg", fronts))
    file = directory / "haproxy.cfg"
    file.write_text(text)
    return [find_program("haproxy") or "haproxy", "-db", "-f", str(file)]


def _shipped(name: str, fronts: list[int]) -> str:
    """Return a file that ships, with the fronts' addresses."""
    text = (TREE / "deploy" / name).read_text()
    for number, front in enumerate(fronts, start=1):
        text = text.replace(f"10.0.0.1{number}:8000", f"{HOST}:{front}")
    return text
