"""The simulator as a process."""

import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.snowflake_simulator.connections import KeyPair, connect
from tests.support.deadlines import DEADLINE


@dataclass
class Address:
    host: str
    port: int
    account: str = "simulator"


def test_command_prints_its_port_and_stops_on_sigterm(tmp_path: Path) -> None:
    password, key = tmp_path / "password", tmp_path / "key.pub"
    password.write_text("of the admin\n")
    keys = KeyPair()
    key.write_text(f"-----BEGIN PUBLIC KEY-----\n{keys.public}\n-----END PUBLIC KEY-----\n")
    command = [sys.executable, "-m", "snowflake_simulator", "--port", "0", "--admin-user", "ops"]
    command += ["--admin-password-file", str(password), "--admin-public-key", str(key)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"on (127\.0\.0\.1):(\d+)", process.stdout.readline())
        assert found is not None
        address = Address(found[1], int(found[2]))
        for options in ({"password": "of the admin"}, {"private_key": keys.private}):
            connection = connect(address, "ops", **options)
            assert connection.value("SELECT CURRENT_ROLE()") == "ACCOUNTADMIN"
            connection.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
