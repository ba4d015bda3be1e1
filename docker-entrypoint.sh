#!/bin/sh
# Runs the line of the Procfile that the first argument names, or else the arguments themselves.
# The process takes this shell's place, so it gets the container's signals and may end in order.
set -eu
line=$(sed -n "s/^$1: *//p" "$(dirname "$0")/Procfile")
if [ -n "$line" ]; then
    eval "exec $line"
fi
exec "$@"
