#!/usr/bin/env bash
# usage: symbols.sh LIBRARY.so INCLUDE_DIR NAME...
# Fails when the library exports a name that is not gradwire's, a function of gradwire's that no header in INCLUDE_DIR
# has, or when it lacks one of NAME (demangled, without arguments). What the standard library instantiates for us may
# be weak and visible; strong symbols of std may not.
set -euo pipefail
library=$1 headers=$2
shift 2

# Private, and used by gradwire's other libraries.
shared_between_libraries='log|environment|reach_device'

exported=$(nm -D --defined-only "$library")
demangled=$(c++filt <<<"$exported")

foreign=$(awk '
  { type = $(NF - 1); name = $NF }
  name ~ /^_Z(T[ISVT]|GV|Th[n0-9_]+)?Z*N[KVRO]*8gradwire/ { next }
  type ~ /[WVu]/ && name ~ /^_Z(T[ISVT]|GV)?Z*(N[KVRO]*)?(S[tabsiod]|9__gnu_cxx)/ { next }
  { print "not of gradwire:", type, name }' <<<"$exported" | c++filt)
if [[ -n $foreign ]]; then
  echo "$foreign"
  exit 1
fi

sed -nE 's/^[0-9a-f]+ [TDBR] gradwire::([A-Za-z0-9_]+).*/\1/p' <<<"$demangled" | sort -u | while read -r name; do
  [[ $name =~ ^($shared_between_libraries)$ ]] || grep -qrw "$name" "$headers/gradwire" || {
    echo "exported, but in no public header: gradwire::$name"
    exit 1
  }
done
for name in "$@"; do
  grep -qF " $name(" <<<"$demangled" || {
    echo "not exported: $name"
    exit 1
  }
done
echo "$library: $(wc -l <<<"$exported") symbols, all of them gradwire's"
