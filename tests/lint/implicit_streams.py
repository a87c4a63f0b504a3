#!/usr/bin/env python3
"""Fails on CUDA calls that use a stream which is not named: it is another one where code is compiled for per-thread
default streams; and on blocking streams, which wait for the legacy one. The model of CUDA (tests/device_model) has no default arguments for streams
and refuses the handle 0, which finds the rest.

usage: implicit_streams.py ROOT
"""

import re
import sys
from pathlib import Path

import sources

IMPLICIT = re.compile(
    r"<<<|\bcudaStreamDefault\b"
    r"|\bcuda(?:DeviceSynchronize|StreamCreate|LaunchKernel|Mem(?:cpy|set)\w*(?<!Async))\s*(?=\()"
)
NOT_THE_LIBRARY = ("tests/device_model/", "tests/device/model_test.cpp")  # where streams are modelled


def problems(root):
    for path in sources.find(root):
        if path.as_posix().startswith(NOT_THE_LIBRARY):
            continue
        code = sources.code_only(Path(root, path).read_text(encoding="utf-8"))
        for number, line in enumerate(code.splitlines(), 1):
            for found in IMPLICIT.finditer(line):
                yield f"{path}:{number}: {found.group().strip()}: name a stream, one that is non-blocking"


def main(arguments):
    if len(arguments) != 2 or not Path(arguments[1], "include", "gradwire").is_dir():
        sys.exit(__doc__)
    found = list(problems(arguments[1]))
    print("\n".join(found) if found else "every CUDA call names its stream")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
