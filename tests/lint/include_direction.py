#!/usr/bin/env python3
"""Fails on an #include that points against the arrows of docs/design.md, section 2.

usage: include_direction.py ROOT
"""

import re
import sys
from pathlib import Path, PurePosixPath

import sources

# What each layer may include besides itself. A public header belongs to the layer that implements it.
LEFT_OF = {
    "base": set(),
    "compress": {"base"},
    "transport": {"base"},
    "collectives": {"base", "compress", "transport"},
    "plan": {"base", "compress"},
    "train": {"base", "compress", "transport", "collectives", "plan"},
    "umbrella": {"base", "compress", "transport", "collectives", "plan", "train"},
}
LIBRARY = set(LEFT_OF)
LEFT_OF["tools"] = LIBRARY
LEFT_OF["bench"] = LIBRARY | {"tools", "examples"}
LEFT_OF["examples"] = LIBRARY
LEFT_OF["tests"] = LIBRARY | {"tools", "bench", "examples"}

PUBLIC = {
    "base": "buffer error export types version work",
    "compress": "compressor",
    "transport": "transport mpi nccl",
    "collectives": "allreduce sharded",
    "plan": "plan trace",
    "train": "feedback hook optimizer planning run_log",
    "umbrella": "gradwire",
}
LAYER_OF_PUBLIC = {f"gradwire/{name}.hpp": layer for layer, names in PUBLIC.items() for name in names.split()}
GENERATED = {"gradwire/version.hpp"}

# Headers of backends, and the files that may include them.
BACKENDS = [
    (re.compile(r"mpi\.h|mpi-ext\.h"), re.compile(r"src/transport/mpi|bench/network/|tests/"), "src/transport/mpi*, bench/network and tests"),
    (re.compile(r"nccl\w*\.h"), re.compile(r"src/transport/nccl|tests/"), "src/transport/nccl* and tests"),
    (
        re.compile(r"(cuda|cooperative_groups|nv_|cublas|curand)\w*\.h|(cub|thrust|cuda|nv|nvtx3)/.*"),
        re.compile(r"src/base/(device_)?cuda|src/transport/nccl|tests/device(_model)?/|.*\.cuh?$"),
        "src/base/cuda*, src/transport/nccl*, tests/device* and .cu files",
    ),
]

STANDARD = set(
    """algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono cinttypes
    climits clocale cmath codecvt compare complex concepts condition_variable coroutine csetjmp csignal cstdarg cstddef
    cstdint cstdio cstdlib cstring ctime cuchar cwchar cwctype deque exception execution filesystem format forward_list
    fstream functional future initializer_list iomanip ios iosfwd iostream istream iterator latch limits list locale map
    memory memory_resource mutex new numbers numeric optional ostream queue random ranges ratio regex scoped_allocator
    semaphore set shared_mutex source_location span sstream stack stdexcept stop_token streambuf string string_view
    syncstream system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set utility valarray
    variant vector version""".split()
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include[ \t]*|define[ \t]+HWY_TARGET_INCLUDE[ \t]+)([<"])([^>"\n]+)[>"]', re.MULTILINE)


def layer_of(path):
    """`path` is relative to the root; None for a header that no layer owns."""
    parts = path.parts
    if parts[0] == "include":
        return LAYER_OF_PUBLIC.get("/".join(parts[1:]))
    return parts[1] if parts[0] == "src" and len(parts) > 2 else parts[0]


def resolve(root, includer, name):
    """The included file relative to the root, or None when no file of ours has that name."""
    if name in GENERATED:
        return PurePosixPath("include", name)
    for folder in (includer.parent, "include", "src", "", "tests"):
        candidate = (root / folder / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(root):
            return candidate.relative_to(root)
    return None


def check_own(includer, target):
    """What is wrong with `includer` including our own file `target`, or None."""
    source, wanted = layer_of(includer), layer_of(target)
    if wanted is None or wanted not in LEFT_OF:
        return f"{target} belongs to no layer that include_direction.py knows"
    if includer.parts[0] == "include" and target.parts[0] != "include":
        return "a public header includes public and standard headers only"
    if source == "examples" and target.parts[0] not in ("include", "examples"):
        return "an example uses public headers only"
    if wanted != source and wanted not in LEFT_OF[source]:
        return f"{source} may not include {wanted}"
    return None


def check(root, includer, quote, name):
    """What is wrong with one include, or None."""
    for header, allowed, where in BACKENDS:
        if header.fullmatch(name) and not allowed.match(includer.as_posix()):
            return f"only {where} may include it"
    target = resolve(root, includer, name)
    if target is not None:
        return check_own(includer, target)
    if quote == '"' or name.startswith("gradwire/"):
        return "no such file in the tree (headers of other projects go in <>)"
    if includer.parts[0] == "include" and name not in STANDARD:
        return "a public header includes public and standard headers only"
    return None


def problems(root):
    root = Path(root).resolve()
    for path in sources.find(root):
        if layer_of(path) not in LEFT_OF:
            yield f"{path}:1: belongs to no layer that include_direction.py knows"
            continue
        text = sources.without_comments((root / path).read_text(encoding="utf-8"))
        for match in INCLUDE.finditer(text):
            wrong = check(root, path, match.group(1), match.group(2))
            if wrong:
                line = text.count("\n", 0, match.start()) + 1
                yield f"{path}:{line}: {match.group().strip()}: {wrong}"


def main(arguments):
    if len(arguments) != 2 or not Path(arguments[1], "include", "gradwire").is_dir():
        sys.exit(__doc__)
    found = list(problems(arguments[1]))
    print("\n".join(found) if found else f"{sum(1 for _ in sources.find(arguments[1]))} files: every arrow points left")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
