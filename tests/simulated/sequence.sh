#!/usr/bin/env bash
# sequence.sh QFID SOURCE WORK_DIRECTORY PYTHON: fake_quant.py where PyTorch is; exit code 77 (skipped), saying so, where it
# isn't.
set -euo pipefail
if ! "$4" -c 'import torch, numpy' 2>/dev/null; then
  echo "SKIPPED: $4 has no PyTorch"
  exit 77
fi
export OMP_WAIT_POLICY=passive
"$4" "$(dirname "$0")/fake_quant.py" "$1" "$2" "$3"
