#!/usr/bin/env bash
# tiny-softmax under INT8, 64 windows: dumped, and every number computed again by scripts that share nothing
# with the program; then models with gates and a learnable sink, 17 windows. Faults planted in the dump must be seen.
# Arguments: the program, the project's directory, a directory to work in (1 GB), Python.
set -uo pipefail
qfid=$1 project=$2 work=$3 python=$4 here=$(cd "$(dirname "$0")" && pwd)
export OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1
"$python" -c 'import numpy' 2>/dev/null || {
  echo "SKIPPED: $python has no NumPy; nothing was recomputed"
  exit 77
}
rm -rf "$work" && mkdir -p "$work" && cd "$work" || exit 99
trap 'rm -rf "$work"/dump "$work"/variants-dump' EXIT
cat >run.yaml <<YAML
version: 1
name: recompute
models:
  softmax: {path: $project/configs/models/tiny-softmax}
data: {tokens: $project/configs/data/tiny-tokens.npy, windows: 64, context: 128}
targets:
  int8: {preset: int8-per-token}
YAML
"$qfid" run run.yaml --out results --dump dump --quiet || exit 1
"$qfid" run run.yaml --out plain --quiet || exit 1
cmp results/layers.csv plain/layers.csv || { echo "FAILED: dumping changed the numbers"; exit 1; }
"$python" "$here/recompute.py" results dump softmax 2 || exit 1
cat >variants.yaml <<YAML
version: 1
name: variants
models:
  value: {path: $project/configs/models/tiny-vga-value}
  output: {path: $project/configs/models/tiny-iga-output}
  sink: {path: $project/configs/models/tiny-sink}
data: {tokens: $project/configs/data/tiny-tokens.npy, windows: 17, context: 128}
targets:
  int8: {preset: int8-per-token}
YAML
"$qfid" run variants.yaml --out variants --dump variants-dump --quiet || exit 1
for model in value output sink; do
  "$python" "$here/recompute.py" variants variants-dump $model 2 || exit 1
done
rm -rf variants-dump
"$python" "$here/llamacpp.py" results dump softmax int8 || exit 1

cat >changes.yaml <<YAML
version: 1
name: changes
models:
  softmax: {path: $project/configs/models/tiny-softmax}
  vga: {path: $project/configs/models/tiny-vga-output}
data: {tokens: $project/configs/data/tiny-tokens.npy, windows: 4, context: 64}
metrics: {noise_windows: 4, interventions: [mask_key_0, zero_v_0, gate_one, gate_mean], intervention_windows: 4}
targets:
  int8: {preset: int8-per-token}
YAML
"$qfid" run changes.yaml --out changes --quiet || exit 1
for model in softmax vga; do
  "$python" "$here/changes.py" changes $model "$project/configs/data/tiny-tokens.npy" || exit 1
done
sed -i '0,/"zero_v_0"/s//"mask_key_0"/' changes/results.json
if "$python" "$here/changes.py" changes softmax "$project/configs/data/tiny-tokens.npy" >planted.txt; then
  echo "FAILED: an intervention under another's name wasn't seen"
  exit 1
fi

# must_see WHAT FILE FACTOR COMMAND...: the largest element of a dumped tensor times FACTOR, and the script finds it.
must_see() {
  local what=$1 file=$2 factor=$3
  shift 3
  cp "$file" kept.npy
  "$python" - "$file" "$factor" <<'PYTHON' || exit 99
import sys
import numpy as np
x = np.load(sys.argv[1], mmap_mode="r+").reshape(-1)
x[np.argmax(x)] *= float(sys.argv[2])
PYTHON
  if "$python" "$@" >planted.txt; then
    echo "FAILED: $what wasn't seen"
    exit 1
  fi
  mv kept.npy "$file"
}
must_see "one value of one layer's output off by 1 %" dump/softmax/int8/layer3.output.npy 1.01 \
  "$here/recompute.py" results dump softmax 2
must_see "one code of P off by half" dump/softmax/int8/layer2.local.p_codes.npy 0.5 \
  "$here/recompute.py" results dump softmax 2
must_see "one logit off by 1 %" dump/softmax/int8/logits.npy 0.99 "$here/recompute.py" results dump softmax 2
must_see "one logit off by 20 %" dump/softmax/int8/logits.npy 0.8 "$here/llamacpp.py" results dump softmax int8
