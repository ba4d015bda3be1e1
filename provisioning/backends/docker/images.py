"""What sandboxes of the different types have in common, and where they differ."""

from dataclasses import dataclass

#: Where an image finds the user's name, the password's hash and the certificate.
SECRETS_DIRECTORY = "/run/provisioning"


@dataclass(frozen=True)
class SandboxType:
    """What an image of one type does."""

    #: How user names begin (contract section 10).
    user: str
    #: The port its server listens on, inside.
    port: int
    #: What its page contains when it is ready (contract 8.4.1).
    word: str


SANDBOX_TYPES = {
    "jupyter": SandboxType(user="jupy", port=8888, word="Jupyter"),
    "rstudio": SandboxType(user="rstu", port=8787, word="RStudio"),
}
