"""Shows that a package was installed."""

GREETING = "installed"
