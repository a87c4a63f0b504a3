#!/usr/bin/env bash
# Measures gradwire beside its peers in one run: Open MPI's allreduce with each of its algorithms, Gloo's with each of
# its, and 'gradwire perf'. Prints one table of medians, spreads and speed-ups.
#
#   compare.sh HOSTS RATE SIZE    over emulated hosts (see netns.sh), e.g. compare.sh 4 1gbit 64M
#   compare.sh shm RANKS SIZE     ranks of this machine through shared memory, e.g. compare.sh shm 2 16M
#
# Options after those: see compare.py --help. The programs come from --build DIR (build/release of this repository).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

for tool in python3 mpirun; do
  command -v "$tool" >/dev/null || { echo "compare.sh: $tool is missing" >&2; exit 2; }
done
case "${1:-}" in
  -h | --help | "") sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exec python3 "$here/compare.py" --help ;;
esac
exec python3 "$here/compare.py" "$@"
