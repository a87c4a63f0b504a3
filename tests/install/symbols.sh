#!/usr/bin/env bash
# usage: symbols.sh LIBRARY.so NAME...
# Fails when the library exports a name that is not gradwire's, or lacks one of NAME (demangled, without arguments).
# What the standard library instantiates for us may be weak and visible; strong symbols of std may not.
set -euo pipefail
library=$1
shift
exported=$(nm -D --defined-only "$library")

foreign=$(awk '
  { type = $(NF - 1); name = $NF }
  name ~ /^_Z(T[ISVT]|GV|Th[n0-9_]+)?(N[KVRO]*|Z*N[KVRO]*)8gradwire/ { next }
  type ~ /[WVu]/ && name ~ /^_Z(T[ISVT]|GV)?(N[KVRO]*)?(S[tabsiod]|9__gnu_cxx)/ { next }
  { print type, name }' <<<"$exported" | c++filt)
if [[ -n $foreign ]]; then
  sed 's/^/not of gradwire: /' <<<"$foreign"
  exit 1
fi
demangled=$(c++filt <<<"$exported")
for name in "$@"; do
  grep -qF " $name(" <<<"$demangled" || { echo "not exported: $name"; exit 1; }
done
echo "$library: $(wc -l <<<"$exported") symbols, all of them gradwire's"
