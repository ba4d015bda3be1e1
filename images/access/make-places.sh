#!/bin/sh
# The places that the service writes to before a sandbox starts, for its user to read and write.
set -eu
install -d -o 1000 -g 1000 /opt/packages \
    /data /data/in /data/in/tables /data/in/files /data/in/user \
    /data/out /data/out/tables /data/out/files
