"""Jupyter's settings in a sandbox: of the classic notebook, or of Jupyter Server and its Lab."""

import os
import secrets
from pathlib import Path

ACCESS = Path("/run/provisioning")
DATA = Path("/data")

c = get_config()  # noqa: F821

hashed = (ACCESS / "password-hash").read_text().strip()

if os.environ["SANDBOX_JUPYTER"] == "jupyter-notebook":
    server = login = c.NotebookApp
    server.notebook_dir = str(DATA)
    # Ending the server would end the sandbox.
    server.quit_button = False
    login.password = hashed
    first_page = "/notebooks/notebook.ipynb"
else:
    server, login = c.ServerApp, c.PasswordIdentityProvider
    server.root_dir = str(DATA)
    login.hashed_password = hashed
    first_page = "/lab/tree/notebook.ipynb"

server.ip = "0.0.0.0"
server.port = 8888
server.port_retries = 0
server.open_browser = False
server.log_level = "WARN"
if (DATA / "notebook.ipynb").exists():
    server.default_url = first_page
if (ACCESS / "tls.crt").exists():
    server.certfile = str(ACCESS / "tls.crt")
    server.keyfile = str(ACCESS / "tls.key")

login.password_required = True
login.allow_password_change = False
# For `sandbox-activity`, which finds it in the file that Jupyter describes itself in.
login.token = secrets.token_hex(32)
server.extra_template_paths = ["/etc/jupyter/templates"]
