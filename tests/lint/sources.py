"""Finds the C++ files of a source tree and blanks what is not code in them."""

import re
from pathlib import Path

FOLDERS = ("include", "src", "collectives", "tools", "examples", "bench", "tests")
SUFFIXES = {".hpp", ".cpp", ".h", ".c", ".cu", ".cuh"}

_NOT_CODE = re.compile(
    r"""
      //(?:\\\n|[^\n])*                                # line comment
    | /\*.*?\*/                                        # block comment
    | R"(?P<delimiter>[^()\\\s]{0,16})\(.*?\)(?P=delimiter)"   # raw string
    | "(?:\\.|[^"\\\n])*"                              # string
    | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'              # character; a quote after a digit separates digits
    """,
    re.VERBOSE | re.DOTALL,
)


def find(root):
    """Paths relative to `root`, sorted."""
    root = Path(root)
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield path.relative_to(root)


def _blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def without_comments(text):
    """Comments become spaces; strings stay. Line numbers do not change."""
    return _NOT_CODE.sub(lambda m: _blank(m) if m.group().startswith("/") else m.group(), text)


def code_only(text):
    """Comments, strings, characters and preprocessor lines become spaces. Line numbers do not change."""
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", _blank, _NOT_CODE.sub(_blank, text), flags=re.MULTILINE)
