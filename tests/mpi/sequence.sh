#!/usr/bin/env bash
# qfid-mpi on one machine: any number of ranks gives the bytes of qfid run --no-timings; a rank that is killed, fails, stops or
# runs something else. Arguments: qfid, qfid-mpi, the project's directory, a directory to work in.
set -uo pipefail
qfid=$1 qfid_mpi=$2 project=$3 work=$4
command -v mpirun >/dev/null || { echo "SKIPPED: mpirun isn't installed (Debian: openmpi-bin)"; exit 77; }
export OMP_WAIT_POLICY=passive
# Open MPI: more ranks than cores, each free to use any, and as root where a container has nobody else. Others don't read these.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
rm -rf "$work" && mkdir -p "$work" && cd "$work" || exit 99
failures=0

fail() { printf 'FAILED: %s\n' "$*"; failures=$((failures + 1)); }
hash_of() { (cd "$1" && find . -type f ! -name run.journal | sort | xargs sha256sum | sha256sum); }
same() { [ "$(hash_of "$1")" = "$(hash_of whole)" ] || { fail "$1 has other files than whole:"; diff -rq "$1" whole; }; }
expect() {  # CODE TEXT FILE GOT
  [ "$4" -eq "$1" ] && grep -qF -- "$2" "$3" || { fail "exit code $4, expected $1; expected to say: $2"; cat "$3"; }
}

config() {  # WINDOWS
  cat <<YAML
version: 1
name: ranks
models: {softmax: {path: $project/configs/models/tiny-softmax}, gated: {path: $project/configs/models/tiny-vga-output}}
data: {tokens: $project/configs/data/tiny-tokens.npy, windows: $1, context: 128}
targets:
  int8: {preset: int8-per-token}
  fp8: {preset: fp8-e4m3}
metrics: {local_windows: 2, sink_windows: 2, kernel_windows: 1, noise_windows: 2, budget_windows: 1, interventions: [mask_key_0], intervention_windows: 2}
run: {chunk_windows: 1, threads: 1}
YAML
}
config 24 >run.yaml

# A rank, in a place of its own: its process is known by its rank, and tests can give it other files or another program.
cat >rank.sh <<'SH'
#!/bin/sh
rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}
echo $$ >"pids/$rank"
program=$QFID_MPI
[ -x "programs/$rank" ] && program=$PWD/programs/$rank
[ -d "places/$rank" ] && cd "places/$rank"
exec "$program" "$@"
SH
chmod +x rank.sh
mkdir pids programs places
export QFID_MPI=$qfid_mpi

"$qfid" run run.yaml --out whole --no-timings --quiet || fail "qfid run"
for n in 1 2 3 4; do
  mpirun -n $n "$qfid_mpi" run run.yaml --out "n$n" --quiet >n$n.log 2>&1 || { fail "$n ranks: exit code $?"; cat n$n.log; }
  same n$n
done
echo "1, 2, 3 and 4 ranks: $(hash_of n4), qfid run: $(hash_of whole)"
"$qfid_mpi" run run.yaml --out alone --quiet >alone.log 2>&1 || { fail "without mpirun: exit code $?"; cat alone.log; }
same alone
mpirun -n 2 "$qfid_mpi" run run.yaml --out n2 >again.log 2>&1
expect 0 "n2: finished already, nothing to do" again.log $?

# start DIR OPTIONS... : four ranks in the background; on return the journal holds units.
start() {
  local out=$1
  shift
  rm -f pids/*
  mpirun -n 4 "$@" ./rank.sh run run.yaml --out "$out" --quiet --lost-after 3 >$out.log 2>&1 &
  job=$!
  for _ in $(seq 2400); do
    [ "$(stat -c %s "$out/run.journal" 2>/dev/null || echo 0)" -gt 100000 ] && return
    sleep 0.05
  done
  fail "$out: no unit in 120 s"
  cat $out.log
}
kept() { stat -c %s "$1/run.journal"; }

# A rank is killed: Open MPI's default ends the whole job. What was finished is kept, and any number of ranks goes on.
start killed
kill -KILL "$(cat pids/2)"
wait $job
code=$?
[ $code -ne 0 ] || fail "killed: exit code 0"
echo "a rank killed with -9: mpirun's exit code $code, $(kept killed) bytes of journal"
mpirun -n 3 "$qfid_mpi" run run.yaml --out killed >resumed.log 2>&1
expect 0 "killed: going on after" resumed.log $?
same killed

# Where the others live on, they compute what it had.
if mpirun --version | grep -q 'Open MPI) 4'; then
  start recovered --enable-recovery
  kill -KILL "$(cat pids/2)"
  wait $job
  expect 0 "rank 2 ($(uname -n)) dropped out: nothing heard for 3 s" recovered.log $?
  same recovered
fi

# A rank that stops responding and comes back. (Its unit may be finished by another meanwhile.)
start paused
kill -STOP "$(cat pids/1)"
sleep 5
kill -CONT "$(cat pids/1)"
wait $job || fail "paused: exit code $?"
same paused

# Rank 0 is told to stop: units at hand are finished, results are those of an interrupted run; then it goes on.
start stopped
kill -TERM "$(cat pids/0)"
wait $job
code=$?
[ $code -eq 143 ] || fail "stopped: exit code $code, expected 143"
grep -q '"interrupted": true' stopped/results.json || { fail "stopped: results.json isn't marked"; cat stopped.log; }
mpirun -n 2 "$qfid_mpi" run run.yaml --out stopped --quiet >stopped2.log 2>&1 || { fail "stopped, resumed"; cat stopped2.log; }
same stopped

# A rank of another program, one with another configuration, one without its files: refused, or done without, by name.
here=$(uname -n)
cp "$qfid_mpi" programs/2 && printf x >>programs/2
mpirun -n 3 ./rank.sh run run.yaml --out other >other.log 2>&1
expect 2 "rank 2 ($here): runs something else than rank 0 ($here): program (was " other.log $?
rm programs/2
[ ! -e other/results.json ] || fail "other: results of a job that was refused"
for rank in 0 1 2; do mkdir places/$rank && config 24 >places/$rank/run.yaml; done
config 23 >places/1/run.yaml
mpirun -n 3 ./rank.sh run run.yaml --out "$work/other" >other.log 2>&1
expect 2 'rank 1 ('"$here"'): runs something else than rank 0 ('"$here"'): configuration (line 4 was' other.log $?
rm places/1/run.yaml
mpirun -n 3 ./rank.sh run run.yaml --out "$work/without" --quiet >without.log 2>&1
expect 0 "rank 1 ($here) dropped out: run.yaml: " without.log $?
grep -q "1 of 3 ranks dropped out: rank 1" without.log || { fail "without: not named at the end"; cat without.log; }
rm -r places && mkdir places
same without

# What can't be split, and mistakes: said once.
mpirun -n 3 "$qfid_mpi" run run.yaml --out bad --shard 1/2 >bad.log 2>&1
expect 2 "--shard: the ranks of a job share out one whole run, expected none" bad.log $?
mpirun -n 3 "$qfid_mpi" run missing.yaml --out bad >bad.log 2>&1
expect 2 "missing.yaml: no such configuration file" bad.log $?
[ "$(grep -c missing.yaml bad.log)" -eq 1 ] || { fail "missing.yaml is named once"; cat bad.log; }

[ $failures -eq 0 ] && echo "all as expected" || exit 1
