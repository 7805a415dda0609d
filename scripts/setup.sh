#!/usr/bin/env bash
# Make $VENV and install pgfleet in it with everything for tests, in the versions of constraints.txt.
# Does nothing when that was done already with the same files.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

wanted=$(cat pyproject.toml constraints.txt scripts/setup.sh | sha256sum | cut -d' ' -f1)
identity='import sys; print(sys.base_prefix, sys.version)'
right_python() { # any will do, unless one was asked for
  [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -c "$identity")" = "$("$venv/bin/python" -c "$identity" 2>/dev/null)" ]
}
done_already() {
  right_python && [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c 'import worker' 2>/dev/null
}

done_already && exit 0
exec 9<. # a lock on this directory: two may be asked for at once
flock 9
done_already && exit 0 # somebody else did it while we waited

if ! right_python || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(scripts/python.sh)
  echo "Setting up $venv with $("$python" --version) (a minute or two, once) …"
  scripts/quietly.sh "$python" -m venv --clear "$venv"
else
  echo "Bringing $venv up to date …"
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
scripts/quietly.sh "$venv/bin/python" -m pip install --quiet -c constraints.txt -e '.[local,dev,docs]'
echo "$wanted" >"$venv/.installed"
