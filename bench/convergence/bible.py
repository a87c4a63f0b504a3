"""The King James Bible as text: Debian's packages bible-kjv and bible-kjv-text."""
import subprocess
import sys


def write_text(path):
    """The text of the Bible, a verse a line, without the verses' numbers."""
    try:
        done = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("no program 'bible': it comes with Debian's packages bible-kjv and bible-kjv-text")
    lines = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if " " in line]
    if done.returncode != 0 or len(lines) < 31000:
        sys.exit(f"bible: {len(lines)} verses, expected 31102: {done.stderr.strip()}")
    path.write_text("\n".join(lines) + "\n")
