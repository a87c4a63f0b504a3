#!/usr/bin/env bash
# usage: pkg_config.sh COMPILER PREFIX SOURCE OUT MODULE...
# Compiles and runs SOURCE with what pkg-config says of the modules installed under PREFIX, without and with --static.
set -euo pipefail
compiler=$1 prefix=$2 source=$3 out=$4
shift 4
pc_dir=$(find "$prefix" -name gradwire.pc -printf '%h\n')
lib_dir=${pc_dir%/pkgconfig}
export PKG_CONFIG_PATH=$pc_dir LD_LIBRARY_PATH=$lib_dir
defines=()
[[ $* != *gradwire-mpi* ]] || defines=(-DCONSUMER_MPI)

mkdir -p "$out"
for mode in "" --static; do
  pkg-config $mode --print-errors --exists "$@"
  read -ra cflags <<<"$(pkg-config $mode --cflags "$@")"
  read -ra libs <<<"$(pkg-config $mode --libs "$@")"
  set -x
  "$compiler" -std=c++20 "${defines[@]}" "${cflags[@]}" "$source" -o "$out/consumer" "${libs[@]}"
  "$out/consumer"
  { set +x; } 2>/dev/null
done
