#!/usr/bin/env bash
# Print a Python that pgfleet can use: $PYTHON, or the first that is 3.11 or newer and can make a venv.
# The versions that are tested come first.
set -uo pipefail

usable() {
  "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
  usable "$PYTHON" && { command -v "$PYTHON"; exit 0; }
  echo "PYTHON=$PYTHON is not a Python 3.11 or newer that can make a venv." >&2
  exit 1
fi
for candidate in python3.13 python3.12 python3.11 python3.14 python3; do
  usable "$candidate" && { command -v "$candidate"; exit 0; }
done
echo "No Python 3.11 or newer that can make a venv was found." >&2
echo "Install one (Debian: apt-get install python3 python3-venv), or say which: make PYTHON=/path/to/python …" >&2
exit 1
