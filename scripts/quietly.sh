#!/usr/bin/env bash
# Run a command and show what it said only when it fails.
set -uo pipefail
output=$("$@" 2>&1 </dev/null)
code=$?
if [ $code -ne 0 ]; then
  printf '%s\n' "$output" >&2
  echo "Failed: $*" >&2
fi
exit $code
