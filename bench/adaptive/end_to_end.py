#!/usr/bin/python3
"""Training under a plan beside training under one setting for all layers, over several seeds: an LSTM over the King
James Bible, momentum 0.9, rate 4. Prints score, bytes and spread as a table in Markdown; one run takes 4 to 10 seconds.

Needs the target train_bench and the packages of `scripts/install-deps bench`.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "convergence"))
from bible import write_text  # noqa: E402

PLANNED = ["--plan-start", "4", "--plan-period", "40"]
SETTINGS = [
    ("dense", None),
    ("q4+ef", None),
    ("q3+ef", None),
    ("q2+ef", None),
    ("rotate(q2,clip=1.2,scale=contractive)+ef", None),
    ("powersgd(8)+ef", None),
    ("powersgd(16)+ef", None),
    ("topk(0.2)|q4+ef", None),
    ("topk(0.15)|q4+ef", None),
    ("topk(0.1)|q4+ef", None),
    ("topk(0.3)|q3+ef", None),
    ("topk(0.2)|q3+ef", None),
    ("q3+ef", "budget(ratio=16)"),
    ("q3+ef", "budget(ratio=20)"),
    ("q3+ef", "budget(ratio=25)"),
    ("q3+ef", "lgreco(alpha=2)"),
]


def train(bench, text, seed, scheme, policy):
    command = [str(bench), "--task", "kjv", "--data", str(text), "--ranks", "4", "--lr", "4", "--momentum", "0.9", "--seed", str(seed),
               "--scheme", scheme] + (["--policy", policy] + PLANNED if policy else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "GRADWIRE_LOG_LEVEL": "info"})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}")
    if policy and " adopted" not in done.stderr:  # a busy machine may leave no time to measure: that is no row of a plan
        sys.exit(f"{' '.join(command)}: no plan was adopted:\n{done.stderr}")
    return {**json.loads(done.stdout), "incomplete": done.stderr.count("incomplete")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default="build/release")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", help="rows whose scheme or policy is one of these; dense is always there")
    arguments = parser.parse_args()
    bench = arguments.build / "bench/train_bench"
    if not bench.exists():
        sys.exit(f"no {bench}: build the target train_bench, or name another folder with --build")
    unknown = set(arguments.only or []) - {policy or scheme for scheme, policy in SETTINGS}
    if unknown:
        sys.exit(f"--only: no row {', '.join(sorted(unknown))}")
    out = arguments.build / "adaptive"
    out.mkdir(parents=True, exist_ok=True)
    text = out / "bible.txt"
    write_text(text)
    rows = []
    for scheme, policy in SETTINGS:
        if arguments.only and scheme != "dense" and (policy or scheme) not in arguments.only:
            continue
        runs = [train(bench, text, seed, scheme, policy) for seed in arguments.seeds]
        rows.append({"scheme": scheme, "policy": policy, "runs": runs})
        print(scheme, policy or "", [round(run["bits_per_char"], 4) for run in runs], file=sys.stderr)
    dense = [run["bits_per_char"] for run in rows[0]["runs"]]
    print("| for all layers | policy | bits a character | from dense | of single seeds | fewer bytes |\n|---|---|---:|---:|---|---:|")
    for row in rows:
        scores = [run["bits_per_char"] for run in row["runs"]]
        apart = [score - own for score, own in zip(scores, dense)]
        policy = f"`{row['policy']}`" if row["policy"] else ""
        scheme = row["scheme"].replace("|", "\\|")
        print(f"| `{scheme}` | {policy} | {statistics.mean(scores):.4f} | {statistics.mean(apart):+.4f} "
              f"| {min(apart):+.3f} .. {max(apart):+.3f} | {statistics.mean(run['ratio'] for run in row['runs']):.1f}x |")
    (out / "end_to_end.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
