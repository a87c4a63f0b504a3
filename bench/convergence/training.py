#!/usr/bin/python3
"""Trains small networks with every feedback rule over several compressors, and draws score against bytes.

usage: training.py --bench BUILD/bench/train_bench [--out FOLDER] [--parts PART,...] [--full] [--resume] [--jobs N]

Parts, in this order: targets (Fashion-MNIST, 4 ranks, three seeds, schemes chosen for high ratios), fashion (seven rules
over every compressor, one seed, 4 ranks; --full: and 8), kjv (the same over the King James text, 4 ranks; Debian's
packages bible-kjv and bible-kjv-text). Each run is one process; N of them at a time (2).

FOLDER (default: build/training) gets runs.jsonl, a line a run as it ends, training.json, all of them with the tables'
figures, and feedback-*.svg. With --resume, runs that runs.jsonl already has are not repeated.
"""

import argparse
import concurrent.futures
import json
import math
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "gradwire"  # the same picture gives the same file
from matplotlib import pyplot  # noqa: E402

from bible import write_text  # noqa: E402
from training_matrix import COMPRESSORS, DENSE_TUNING, RULES, TARGETS, matrix_scheme, tuning  # noqa: E402

SEEDS = (2, 3, 4)  # rates were found with 1
SCORES = {"fashion": "accuracy", "kjv": "bits_per_char"}
DENSE = "dense"


def run_of(task, ranks, shards, scheme, seed, tuned):
    """What the program is told; `tuned` is a learning rate and the optimiser's momentum."""
    rate, momentum = tuned
    return {"task": task, "ranks": ranks, "shards": shards, "scheme": scheme, "seed": seed, "lr": rate, "momentum": momentum}


def planned(parts, full):
    runs = []
    if "targets" in parts:
        for shards in ("iid", "skew"):
            for scheme, tuned in TARGETS[shards]:
                runs += [run_of("fashion", 4, shards, scheme, seed, tuned) for seed in SEEDS]
    settings = []
    if "fashion" in parts:
        settings += [("fashion", ranks, shards) for ranks in ((4, 8) if full else (4,)) for shards in ("iid", "skew")]
    if "kjv" in parts:
        settings += [("kjv", 4, shards) for shards in (("iid", "skew") if full else ("iid",))]
    for task, ranks, shards in settings:
        runs.append(run_of(task, ranks, shards, DENSE, 1, DENSE_TUNING[task]))
        for rule in RULES:
            for compressor in COMPRESSORS:
                scheme = matrix_scheme(compressor, rule)
                runs.append(run_of(task, ranks, shards, scheme, 1, tuning(task, rule, compressor)))
    unique = {key_of(run): run for run in runs}
    return list(unique.values())


def key_of(run):
    return tuple(run[name] for name in ("task", "ranks", "shards", "scheme", "seed", "lr", "momentum"))


class Runner:
    def __init__(self, bench, folder, text):
        self.bench = bench
        self.text = text
        self.log = (folder / "runs.jsonl").open("a")
        self.lock = threading.Lock()
        self.count = 0

    def __call__(self, run, total):
        command = [self.bench] + [word for name, value in run.items() for word in (f"--{name}", str(value))]
        if run["task"] == "kjv":
            command += ["--data", str(self.text)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        with self.lock:
            self.count += 1
            self.log.write(json.dumps(result) + "\n")
            self.log.flush()
            print(f"[{self.count}/{total}] {describe(result)}", file=sys.stderr)
        return result


def describe(result):
    name = SCORES[result["task"]]
    score = result[name]
    shown = "diverged" if score is None else f"{score:.4f}"
    return f"{result['task']} {result['ranks']} {result['shards']} {result['scheme']}: {name} {shown}, {result['ratio']:.0f}x"


def scored(results, **wanted):
    return [r for r in results if all(r[name] == value for name, value in wanted.items())]


def with_tuning(results, tuned):
    return [r for r in results if (r["lr"], r["momentum"]) == tuple(tuned)]


def mean_score(results):
    scores = [r[SCORES[r["task"]]] for r in results]
    return None if None in scores or not scores else statistics.mean(scores)


def target_rows(results, shards):
    """Each scheme's mean over seeds, with its distance from dense in points, best ratio first."""
    rows = []
    for scheme, tuned in TARGETS[shards]:
        wanted = [key_of(run_of("fashion", 4, shards, scheme, seed, tuned)) for seed in SEEDS]
        runs = [r for r in results if key_of(r) in wanted]
        if len(runs) < len(SEEDS):
            continue
        scores = [r["accuracy"] for r in runs]
        rows.append(
            {
                "shards": shards,
                "scheme": scheme,
                "lr": tuned[0],
                "momentum": tuned[1],
                "accuracy": None if None in scores else statistics.mean(scores),
                "deviation": None if None in scores else statistics.stdev(scores),
                "ratio": statistics.mean(r["ratio"] for r in runs),
            }
        )
    dense = next((row["accuracy"] for row in rows if row["scheme"] == DENSE), None)
    for row in rows:
        row["points_from_dense"] = 100 * (row["accuracy"] - dense) if dense and row["accuracy"] else None
    return sorted(rows, key=lambda row: row["ratio"])


def escaped(scheme):
    return scheme.replace("|", "\\|")  # in a table's cell


def print_targets(rows):
    print(f"\nFashion-MNIST, 4 ranks, {rows[0]['shards']}, mean of {len(SEEDS)} seeds\n")
    print("| scheme | rate | momentum | accuracy | deviation | from dense | fewer bytes |\n|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        if row["accuracy"] is None:
            shown = "diverged | | "
        else:
            shown = f"{100 * row['accuracy']:.2f} % | {100 * row['deviation']:.2f} | {row['points_from_dense']:+.2f}"
        print(f"| `{escaped(row['scheme'])}` | {row['lr']} | {row['momentum']} | {shown} | {row['ratio']:.0f}x |")


def print_matrix(results, task, ranks, shards):
    of_setting = scored(results, task=task, ranks=ranks, shards=shards, seed=1)
    dense = mean_score(with_tuning(scored(of_setting, scheme=DENSE), DENSE_TUNING[task]))
    print(f"\n{task}, {ranks} ranks, {shards}, {SCORES[task]}; dense: {format_score(task, dense)}\n")
    print("| rule | " + " | ".join(f"`{c}`" for c in COMPRESSORS) + " |\n|---|" + "---:|" * len(COMPRESSORS))
    ratios = {}
    for rule in RULES:
        cells = []
        for compressor in COMPRESSORS:
            scheme = matrix_scheme(compressor, rule)
            runs = with_tuning(scored(of_setting, scheme=scheme), tuning(task, rule, compressor))
            cells.append(format_score(task, mean_score(runs)) if runs else "")
            ratios.setdefault(compressor, []).extend(r["ratio"] for r in runs)
        print(f"| {rule} | " + " | ".join(cells) + " |")
    print("| fewer bytes | " + " | ".join(format_ratios(ratios[c]) for c in COMPRESSORS) + " |")


def format_score(task, score):
    is_guessing = score is None or (score <= 0.1 if task == "fashion" else score >= math.log2(62))
    if is_guessing:
        return "diverged"
    return f"{100 * score:.2f} %" if task == "fashion" else f"{score:.3f}"


def format_ratios(ratios):
    low, high = round(min(ratios, default=0)), round(max(ratios, default=0))
    return f"{low}x" if low == high else f"{low}x to {high}x"


def mark_beyond(axes, lines, edge):
    """Points that lie beyond the worse edge of the picture, in words at that edge; close ones above each other."""
    below = bool(edge < sum(axes.get_ylim()) / 2)
    points = [(x, y, line) for line in lines for x, y in zip(*line.get_data()) if ((y < edge) if below else (y > edge))]
    stacks = []
    for point in sorted(points, key=lambda point: point[0]):
        if not stacks or point[0] > 1.6 * stacks[-1][0][0]:
            stacks.append([])
        stacks[-1].append(point)
    for stack in stacks:
        for row, (_, y, line) in enumerate(sorted(stack, key=lambda point: point[1], reverse=not below)):
            offset = (4 + 9 * row) * (1 if below else -1)
            text = f"{line.get_label()} {y:.1f} {'↓' if below else '↑'}"
            axes.annotate(text, (stack[0][0], edge), (3, offset), textcoords="offset points", fontsize=7,
                          color=line.get_color(), va="bottom" if below else "top")  # fmt: skip


def draw(results, task, ranks, shards, path):
    of_setting = scored(results, task=task, ranks=ranks, shards=shards, seed=1)
    figure, axes = pyplot.subplots(figsize=(8, 5.5))
    factor = 100 if task == "fashion" else 1
    lines = []
    for number, rule in enumerate(RULES):
        runs = []
        for compressor in COMPRESSORS:
            of_scheme = scored(of_setting, scheme=matrix_scheme(compressor, rule))
            runs += with_tuning(of_scheme, tuning(task, rule, compressor))
        points = sorted((r["wire_bytes_per_step"], factor * r[SCORES[task]]) for r in runs if r[SCORES[task]] is not None)
        if points:
            lines += axes.plot(*zip(*points), marker="osD^v<>"[number], markersize=5, linewidth=1, label=rule)
    dense = with_tuning(scored(of_setting, scheme=DENSE), DENSE_TUNING[task])
    if dense:
        level = factor * dense[0][SCORES[task]]
        axes.axhline(level, color="black", linewidth=0.8, linestyle="--")
        axes.plot([dense[0]["dense_bytes_per_step"]], [level], marker="*", color="black", markersize=11, linestyle="", label=DENSE)
        limits = (level - 14, level + 1) if task == "fashion" else (level - 0.1, level + 1.5)
        axes.set_ylim(limits)
        mark_beyond(axes, lines, limits[0] if task == "fashion" else limits[1])
    axes.set_xscale("log")
    axes.set_xlabel("bytes a rank sends in a step")
    axes.set_ylabel("accuracy on test images, percent" if task == "fashion" else "bits a character, held-out text")
    axes.grid(True, which="major", linewidth=0.4)
    axes.legend(fontsize=8)
    names = {"fashion": "Fashion-MNIST", "kjv": "King James text"}
    kinds = {"iid": "shards alike", "skew": "shards that differ"}
    better = "upper" if task == "fashion" else "lower"
    axes.set_title(f"{names[task]}, {ranks} ranks, {kinds[shards]}: {better} left is better")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def report(results, folder, seconds):
    targets = []
    for shards in ("iid", "skew"):
        rows = target_rows(results, shards)
        if rows:
            print_targets(rows)
            targets += rows
    for task, ranks, shards in sorted({(r["task"], r["ranks"], r["shards"]) for r in results}):
        of_setting = scored(results, task=task, ranks=ranks, shards=shards, seed=1)
        if len({r["scheme"] for r in of_setting} & {matrix_scheme(c, rule) for c in COMPRESSORS for rule in RULES}) < 8:
            continue
        print_matrix(results, task, ranks, shards)
        draw(results, task, ranks, shards, folder / f"feedback-{task}-{ranks}-{shards}.svg")
    summary = {"seconds": seconds, "targets": targets, "runs": results}
    (folder / "training.json").write_text(json.dumps(summary, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--parts", default="targets,fashion,kjv")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if set(parts) - {"targets", "fashion", "kjv"}:
        parser.error(f"--parts {arguments.parts}: expected some of targets,fashion,kjv")
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out / "runs.jsonl"
    if not arguments.resume:
        log.unlink(missing_ok=True)
    text = arguments.out / "kjv.txt"
    if "kjv" in parts and not text.exists():
        write_text(text)
    there = {key_of(r): r for r in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    runs = planned(parts, arguments.full)
    missing = [run for run in runs if key_of(run) not in there]
    runner = Runner(arguments.bench, arguments.out, text)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        done = {key_of(r): r for r in pool.map(lambda run: runner(run, len(missing)), missing)}
    seconds = time.monotonic() - start
    results = [there.get(key_of(run)) or done[key_of(run)] for run in runs]
    report(results, arguments.out, seconds)
    print(f"\n{len(missing)} runs in {seconds:.0f} s, {arguments.jobs} at a time", file=sys.stderr)


if __name__ == "__main__":
    main()
