#!/usr/bin/env bash
# sequence.sh QFID WORK_DIRECTORY PYTHON: recompute.py where NumPy is; exit code 77 (skipped), saying so, where it isn't.
set -euo pipefail
if ! "$3" -c 'import numpy' 2>/dev/null; then
  echo "SKIPPED: $3 has no NumPy"
  exit 77
fi
export OMP_WAIT_POLICY=passive
"$3" "$(dirname "$0")/recompute.py" "$1" "$2"
