#!/usr/bin/env bash
# Every `qfid ...` line of README.md and the documents names a command and options that the program has. Arguments: the program,
# the project's directory. What isn't checked: that the files a line names are there.
set -uo pipefail
qfid=$1 project=$2
failures=0 lines=0
declare -A help

fail() {
  printf 'FAILED: %s\n' "$1"
  failures=$((failures + 1))
}

while IFS=: read -r file number line; do
  line=${line%%  #*} line=${line#"${line%%[! ]*}"}
  read -ra words <<<"$line"
  command=${words[1]}
  case $command in --help | --version) continue ;; esac
  case $command in baseline | cache) command="$command ${words[2]:-}" ;; esac
  lines=$((lines + 1))
  if [ -z "${help[$command]:-}" ]; then
    # shellcheck disable=SC2086
    help[$command]=$("$qfid" $command --help 2>&1) || { fail "$file:$number: no command $command"; help[$command]=none; continue; }
  fi
  for word in "${words[@]:2}"; do
    [[ $word =~ ^--?[a-z] ]] || continue
    grep -qE -- "(^|[ ,])${word%%=*}([ ,]|$)" <<<"${help[$command]}" || fail "$file:$number: qfid $command has no $word"
  done
done < <(cd "$project" && grep -nE '^    qfid [a-z-]' README.md configs/README.md docs/*.md docs/results/*.md /dev/null)

[ "$lines" -ge 30 ] || fail "only $lines command lines found"
echo "$lines command lines, $failures wrong"
[ "$failures" -eq 0 ]
