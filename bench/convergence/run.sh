#!/usr/bin/env bash
# All experiments on error feedback, one after another: tables on standard output, numbers as JSON and pictures as SVG in OUT.
# Needs the targets convergence_bench and train_bench, and the packages of `scripts/install-deps bench`.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help || $# -gt 2 ]]; then
  echo "usage: bench/convergence/run.sh [BUILD [OUT]]   (build/release and BUILD/convergence)"
  exit $(($# > 2 ? 2 : 0))
fi
here=$(dirname "${BASH_SOURCE[0]}")
readonly build=${1:-build/release}
readonly out=${2:-$build/convergence}

mkdir -p "$out"
"$build/bench/convergence_bench" --json "$out/convergence.json"
"$here/plot.py" "$out/convergence.json" --out "$out"
"$here/training.py" --bench "$build/bench/train_bench" --out "$out"
