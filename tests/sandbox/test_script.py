"""The files that show a script (contract 8.3)."""

import json

import nbformat
import pytest

from provisioning.sandbox.generated_files import script_files


@pytest.mark.parametrize("script", ["", "print('é')\n", "a = 1\nb = 2", '"\\\u2028\x07'])
def test_jupyter_gets_the_script_and_a_notebook_whose_first_cell_it_is(script: str) -> None:
    files = script_files("jupyter", script)
    assert set(files) == {"/data/main.py", "/data/notebook.ipynb"}
    assert files["/data/main.py"].decode() == script
    notebook = nbformat.reads(  # type: ignore[no-untyped-call]
        files["/data/notebook.ipynb"].decode(), as_version=nbformat.NO_CONVERT
    )
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.cells[0].cell_type) == (4, "code")
    assert notebook.cells[0].source == script
    assert notebook.metadata.kernelspec.name == "python3"


def test_windows_ends_of_lines_stay_in_the_file_and_not_in_the_cell() -> None:
    files = script_files("jupyter", "%%sql\r\nSELECT 1\r\n")
    assert files["/data/main.py"] == b"%%sql\r\nSELECT 1\r\n"
    notebook = json.loads(files["/data/notebook.ipynb"])
    assert notebook["cells"][0]["source"] == "%%sql\nSELECT 1\n"


def test_rstudio_gets_the_script_alone() -> None:
    assert script_files("rstudio", "1 + 1") == {"/data/main.R": b"1 + 1"}
