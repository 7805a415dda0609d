#!/usr/bin/env bash
# Write constraints.txt: exact versions of everything that pyproject.toml needs, as resolved today on the oldest
# supported Python, whose dependencies are a superset.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(PYTHON=${PYTHON:-python3.11} scripts/python.sh)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
scripts/quietly.sh "$python" -m venv "$scratch/venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
scripts/quietly.sh "$scratch/venv/bin/python" -m pip install --quiet '.[local,dev,docs]'
{
  echo "# Written by \`make lock\`: exact versions, so that a build in a year is the build of today."
  "$scratch/venv/bin/python" -m pip freeze --exclude pgfleet --exclude setuptools
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" constraints.txt
rm -rf build ./*.egg-info
git diff --stat -- constraints.txt 2>/dev/null || true
