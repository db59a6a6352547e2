#!/usr/bin/env bash
# scripts/train: its model is the program's. The built-in checkpoints have their known perplexities in it; small models of
# every attention variant, decoders and encoders, trained a few steps here and written, have in qfid the perplexity PyTorch
# finds in double.
# Arguments: the program, the project's directory, a directory to work in, Python.
set -uo pipefail
qfid=$1 project=$2 work=$3 python=$4 here=$(cd "$(dirname "$0")" && pwd)
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
"$python" -c 'import torch, safetensors, numpy' 2>/dev/null || {
  echo "SKIPPED: $python has no PyTorch, safetensors or NumPy; the training scripts weren't tested"
  exit 77
}
rm -rf "$work" && mkdir -p "$work" && cd "$work" || exit 99
scripts=$project/scripts/train tokens=$project/configs/data/tiny-tokens.npy
fail() {
  echo "FAILED: $1"
  exit 1
}
perplexity() { "$python" "$scripts/perplexity.py" "$tokens" "$@"; }
train() {
  "$python" "$scripts/train.py" --tokens "$tokens" --device cpu --steps 8 --batch 2 --warmup 2 --lr 0.02 --layers 2 \
    --hidden 32 --ffn 64 --context 64 "$@" 2>>train.log || fail "training $*"
}

perplexity "$project"/configs/models/tiny-* --windows 2 >builtin.txt || fail "perplexities of the built-in models"
"$python" "$here/check.py" known builtin.txt "$project/docs/results/known-values.md" || fail "known perplexities"
"$python" "$here/check.py" matched "$scripts" || fail "matched seeds"

printf 'version: 1\nname: trained\nmodels:\n' >run.yaml
for variant in softmax vga-output vga-value iga-output iga-value sink; do
  train --variant $variant --seeds 0-1 --out models
  for seed in 0 1; do
    "$qfid" inspect models/$variant-s$seed >/dev/null || fail "inspect $variant-s$seed"
    echo "  $variant-s$seed: {path: models/$variant-s$seed}" >>run.yaml
  done
done
printf 'data: {tokens: %s, windows: 4}\ntargets: {int8: {preset: int8-per-token}}\n' "$tokens" >>run.yaml
printf 'metrics: {local_windows: 0, sink_windows: 0}\n' >>run.yaml
"$qfid" run run.yaml --out results --quiet || fail "qfid run"
perplexity models/* --windows 4 >trained.txt || fail "perplexities of the trained models"
"$python" "$here/check.py" agree trained.txt results/results.json || fail "PyTorch and qfid disagree"

printf 'version: 1\nname: encoders\nmodels:\n' >encoders.yaml
for variant in softmax vga-output vga-value iga-output iga-value sink; do
  train --family bert --variant $variant --seeds 0 --out encoders
  echo "  $variant-s0: {path: encoders/$variant-s0}" >>encoders.yaml
done
"$python" "$scripts/masked_rows.py" "$tokens" --rows 4 --context 64 --out masked || fail "masked rows"
printf 'data: {tokens: masked-input.npy, targets: masked-target.npy, protocol: mlm}\n' >>encoders.yaml
printf 'targets: {int8: {preset: int8-per-token}}\nmetrics: {local_windows: 0, sink_windows: 0}\n' >>encoders.yaml
"$qfid" run encoders.yaml --out encoder-results --quiet || fail "qfid run of encoders"
"$python" "$scripts/perplexity.py" masked-input.npy encoders/* --targets masked-target.npy --windows 4 >encoders.txt ||
  fail "perplexities of the encoders"
"$python" "$here/check.py" agree encoders.txt encoder-results/results.json || fail "PyTorch and qfid disagree on encoders"

train --variant softmax --seeds 0-1 --out again
cmp models/softmax-s1/model.safetensors again/softmax-s1/model.safetensors || fail "training twice gave two models"
train --variant vga-output --seeds 1 --out alone
perplexity alone/* --windows 4 >alone.txt
"$python" "$here/check.py" alone trained.txt alone.txt || fail "a seed isn't what it is alone"

# must_see WHAT MODEL TENSOR: half added to that tensor, and the perplexities no longer agree.
must_see() {
  "$python" - "models/$2/model.safetensors" "$3" <<'PYTHON' || exit 99
import sys
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
tensors[sys.argv[2]] += 0.5
save_file(tensors, sys.argv[1], metadata={"format": "pt"})
PYTHON
  perplexity models/* --windows 4 >planted.txt
  "$python" "$here/check.py" agree planted.txt results/results.json >/dev/null && fail "$1 wasn't seen"
}
layer=model.decoder.layers.1.self_attn
must_see "another sink" sink-s0 $layer.sink
"$python" "$scripts/train.py" --tokens "$tokens" --variant nonsense --out x 2>/dev/null && fail "an unknown variant was taken"
# Bigram-backcopy: trained a few steps twice, the same model; in qfid, on sequences generated there and again in Python, the
# losses that PyTorch finds in double.
tables=$project/configs/data/bigram-backcopy
for out in backcopy backcopy-again; do
  "$python" "$scripts/backcopy.py" --tables "$tables" --variant vga-value --device cpu --steps 20 --batch 8 --checkpoints 3 \
    --out $out 2>>train.log || fail "training on bigram-backcopy"
done
last=vga-value-s0/step-20
cmp backcopy/$last/model.safetensors backcopy-again/$last/model.safetensors || fail "training twice gave two models"
cat >backcopy.yaml <<YAML
version: 1
name: backcopy
models: {m: {path: backcopy/$last}}
data: {bigram_backcopy: {tables: $tables, seed: 7, sequences: 16}}
targets: {int8: {preset: int8-per-token}}
metrics: {local_windows: 0}
YAML
"$qfid" run backcopy.yaml --out backcopy-results --quiet || fail "qfid run on bigram-backcopy"
"$python" "$here/backcopy.py" "$tables" backcopy/$last backcopy-results/results.json 16 || fail "bigram-backcopy disagrees"
"$python" "$here/backcopy.py" "$tables" backcopy/vga-value-s0/step-0 backcopy-results/results.json 16 >/dev/null &&
  fail "another checkpoint wasn't seen"

echo "the built-in models, 13 trained decoders and 6 trained encoders agree"
