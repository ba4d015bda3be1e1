"""The files that show a script to the user of a sandbox (contract 8.3). Nothing runs it."""

import json
from typing import Any


def script_files(type_: str, script: str) -> dict[str, bytes]:
    """Return the content of each file by its path."""
    if type_ == "rstudio":
        return {"/data/main.R": script.encode()}
    return {"/data/main.py": script.encode(), "/data/notebook.ipynb": _notebook(script)}


def _notebook(script: str) -> bytes:
    """Return a notebook of one cell; nbformat 4.4 is the newest that needs no ids of cells."""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": script,
    }
    notebook = {
        "cells": [cell],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    return json.dumps(notebook, indent=1).encode()
