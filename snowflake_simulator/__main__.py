"""``python -m snowflake_simulator``: the simulator as a process of its own."""

import argparse
import signal
import threading
from pathlib import Path

from snowflake_simulator.simulator import SnowflakeSimulator


def main() -> None:
    options = _parser().parse_args()
    key = options.admin_public_key
    simulator = SnowflakeSimulator(
        options.admin_user,
        options.admin_password_file.read_text().strip(),
        _bare_key(key.read_text()) if key is not None else None,
        port=options.port,
        account=options.account,
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with simulator:
        print(f"Snowflake simulator on {simulator.host}:{simulator.port}", flush=True)
        stopping.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="snowflake_simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--account", default="simulator")
    parser.add_argument("--admin-user", required=True)
    parser.add_argument("--admin-password-file", type=Path, required=True)
    parser.add_argument("--admin-public-key", type=Path, help="file with a PEM or bare public key")
    return parser


def _bare_key(text: str) -> str:
    return "".join(line for line in text.splitlines() if not line.startswith("-----"))


if __name__ == "__main__":
    main()
