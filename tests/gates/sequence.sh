#!/usr/bin/env bash
# The program as a CI job uses it: run with gates, save a baseline, check against it, compare; exit codes 0, 1, 2, 3 and 4,
# each provoked. Arguments: the program, the project's directory, a directory to work in.
set -uo pipefail
qfid=$1 project=$2 work=$3
export OMP_WAIT_POLICY=passive
rm -rf "$work" && mkdir -p "$work" && cd "$work" || exit 99
failures=0

# expect CODE TEXT COMMAND...: the exit code, and TEXT in what it says.
expect() {
  local code=$1 text=$2 said got
  shift 2
  said=$("$@" 2>&1)
  got=$?
  if [ "$got" -ne "$code" ] || [[ "$said" != *"$text"* ]]; then
    printf 'FAILED: %s\n  exit code %s, expected %s; expected to say: %s\n%s\n' "$*" "$got" "$code" "$text" "$said"
    failures=$((failures + 1))
  fi
}

cat >ci.yaml <<YAML
version: 1
name: ci
models: {softmax: {path: $project/configs/models/tiny-softmax}}
data: {tokens: $project/configs/data/tiny-tokens.npy, windows: 16}
targets:
  int8: {preset: int8-per-token}
  fp8: {preset: fp8-e4m3}
metrics: {local_windows: 0, sink_windows: 0}
gates:
  quality: {metric: perplexity.ratio, max: 1.5}
  drift: {metric: kl.mean, max: 0.00001, targets: int8, relative_to: {file: baseline.json}}
YAML

# The first run: no baseline yet, so the gate can't be answered; then it is saved and everything passes.
expect 1 "isn't there yet: qfid baseline save" "$qfid" run ci.yaml --out a --junit a.xml
expect 0 "wrote baseline.json" "$qfid" baseline save a -o baseline.json
expect 2 "exists: qfid baseline update" "$qfid" baseline save a -o baseline.json
expect 0 "softmax / int8" "$qfid" baseline show baseline.json
expect 0 ": passes" "$qfid" check a --junit b.xml
expect 0 ": passes" "$qfid" run ci.yaml --out b
expect 0 "unchanged" "$qfid" baseline update b baseline.json
expect 0 "no difference shown" "$qfid" compare a b
grep -q '<failure type="inconclusive"' a.xml || { echo "FAILED: a.xml has no failure"; failures=$((failures + 1)); }
grep -q 'tests="3" failures="0"' b.xml || { echo "FAILED: b.xml"; failures=$((failures + 1)); }
grep -q '^## Gates: 3 pass: passes' b/report.md || { echo "FAILED: report.md"; failures=$((failures + 1)); }
grep -q '"verdict": "pass"' b/results.json || { echo "FAILED: results.json"; failures=$((failures + 1)); }

# A change that makes int8 coarser is caught by the paired gate, though its perplexity is far below the bound.
expect 1 "fail " "$qfid" run ci.yaml --out c --set targets.int8.preset=int8-per-tensor
expect 1 "does not pass" "$qfid" check c
expect 0 "replaced, other schemes" "$qfid" baseline update c baseline.json
expect 0 ": passes" "$qfid" check c
printf 'gates:\n  q: {metric: kl.mean, max: 0.00001, expected_failure: {reason: known, expires: 2026-12-31}}\n' >known.yaml
expect 0 "expected failure" "$qfid" check a --gates known.yaml --date 2026-12-31
expect 1 "expired" "$qfid" check a --gates known.yaml --date 2027-01-01
printf 'gates:\n  q: {metric: kl.mean, max: 10, expected_failure: {reason: known, expires: 2026-12-31}}\n' >passes.yaml
expect 1 "unexpected pass" "$qfid" check a --gates passes.yaml --date 2026-12-01

# Usage and configuration.
printf 'gates:\n  q: {metric: kl.maen, max: 1}\n' >wrong.yaml
expect 2 'did you mean "kl.mean"?' "$qfid" check a --gates wrong.yaml
printf 'gates:\n  q: {metric: kl.mean, max: 1, targets: int4}\n' >nothing.yaml
expect 2 "matches no run" "$qfid" check a --gates nothing.yaml
expect 2 "no gate has relative_to" "$qfid" check a --gates known.yaml --baseline baseline.json
expect 1 "" "$qfid" run ci.yaml --out d --set data.first_token=4096 --set gates.quality.max=0.9 --set gates.drift.relative_to='{target: fp8}'
expect 2 "the first token differs (0, 4096)" "$qfid" compare a d
printf 'window,nll\n1,2\n' >one.csv
printf 'window,nll\n2,2\n' >two.csv
expect 2 "the windows differ" "$qfid" compare --tokens one.csv two.csv
expect 0 "perplexity: 7.3891 -> 7.3891" "$qfid" compare --tokens one.csv one.csv

# Bad files.
expect 3 "none.json" "$qfid" check none.json
sed 's/"nll": \[/"nll": [null,/' a/results.json >bad.json
expect 3 '"runs[0].windows.nll[0]" is null, expected a number' "$qfid" check bad.json
printf '{"baseline_version": 9}' >bad-baseline.json
expect 3 '"baseline_version" is 9, expected 1' "$qfid" check a --baseline bad-baseline.json
printf 'window,nll\n1,x\n' >bad.csv
expect 3 'bad.csv:2: nll is "x"' "$qfid" compare --tokens one.csv bad.csv

# Not available here: no device is visible.
expect 4 "gpu" env CUDA_VISIBLE_DEVICES= "$qfid" run ci.yaml --out e --set targets.int8.backend=gpu

[ "$failures" -eq 0 ] && echo "all exit codes as documented"
exit "$failures"
