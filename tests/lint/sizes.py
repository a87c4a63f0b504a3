#!/usr/bin/env python3
"""Fails on a file over 400 lines or a function over 80, and prints the offenders.

usage: sizes.py ROOT

Functions are found by their braces: every block that stands in a namespace or a class and opens neither of them, no
enumeration and no initialiser, is a body. A file whose branches of #if do not balance is refused.
"""

import re
import sys
from pathlib import Path

import sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80

BEFORE_HEAD = re.compile(r"(?:\s|(?:public|private|protected)\s*:)*")
TEMPLATE_HEAD = re.compile(r"template\s*<(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>")
SCOPE = re.compile(r'\s*(?:export\s+)?(?:inline\s+)?(?:namespace\b|extern\s*$|(?:typedef\s+)?(?:class|struct|union)\b)')
ENUM = re.compile(r"\s*enum\b")
INITIALISER = re.compile(r"(?<![=!<>+\-*/%&|^])=(?!=)")


def classify(head):
    """What a brace in a namespace or class opens, from the text since the last `;` or brace: scope, data or body."""
    head = TEMPLATE_HEAD.sub("", head[BEFORE_HEAD.match(head).end() :])
    head = re.sub(r"\boperator\s*[^\s\w(]+", "operator_", head)  # operator== is no initialiser
    outside_parentheses = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", head))
    if ENUM.match(head):
        return "data"
    if SCOPE.match(head) and "(" not in re.sub(r"(alignas|__attribute__|GRADWIRE_API)\s*\(+[^)]*\)+", "", head):
        return "scope"
    return "data" if INITIALISER.search(outside_parentheses) else "body"


def functions(text):
    """Yields (first line, last line) of every function body with its head. Raises ValueError for unbalanced braces."""
    code = sources.code_only(text)
    open_blocks = []  # (kind, offset where the head starts)
    head_start = 0
    for match in re.finditer(r"[{};]", code):
        inside = all(kind == "scope" for kind, _ in open_blocks)
        if match.group() == "{":
            kind = classify(code[head_start : match.start()]) if inside else "inner"
            open_blocks.append((kind, head_start))
        elif match.group() == "}":
            if not open_blocks:
                raise ValueError(f"line {text.count(chr(10), 0, match.start()) + 1}: a brace too many")
            kind, start = open_blocks.pop()
            if kind == "body":
                start = BEFORE_HEAD.match(code, start).end()
                yield text.count("\n", 0, start) + 1, text.count("\n", 0, match.start()) + 1
        if all(kind == "scope" for kind, _ in open_blocks):
            head_start = match.end()
    if open_blocks:
        raise ValueError("the end of the file: a brace is missing")


def problems(root):
    for path in sources.find(root):
        text = Path(root, path).read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_FILE_LINES:
            yield f"{path}:1: {lines} lines, at most {MAX_FILE_LINES}"
        try:
            for first, last in functions(text):
                if last - first + 1 > MAX_FUNCTION_LINES:
                    yield f"{path}:{first}: a function of {last - first + 1} lines, at most {MAX_FUNCTION_LINES}"
        except ValueError as error:
            yield f"{path}: braces do not balance at {error}"


def summary(root):
    texts = [Path(root, path).read_text(encoding="utf-8") for path in sources.find(root)]
    longest = max(last - first + 1 for text in texts for first, last in functions(text))
    return f"{len(texts)} files, longest {max(text.count(chr(10)) for text in texts)} lines; longest function {longest} lines"


def main(arguments):
    if len(arguments) != 2 or not Path(arguments[1], "include", "gradwire").is_dir():
        sys.exit(__doc__)
    found = list(problems(arguments[1]))
    print("\n".join(found) if found else summary(arguments[1]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
