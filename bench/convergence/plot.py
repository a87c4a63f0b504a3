#!/usr/bin/python3
"""Draws what convergence_bench measured.

usage: plot.py FILE.json [--out FOLDER]

Reads what `convergence_bench --json FILE.json` wrote and writes into FOLDER (default docs/images):

    convergence-known-answer.svg   distance to the minimiser step by step, per rule, without gradient noise
    convergence-ball.svg           the ball of error feedback against heterogeneity and rate, beside slopes of 2
    convergence-tuned.svg          with noise: every rule at its best rate and eta
    convergence-two-steps.svg      one lossy step, two with the owner credited, two without

Experiments that are not in the file are left out.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "gradwire"  # the same picture gives the same file
from matplotlib import pyplot  # noqa: E402

COLOURS = {
    "none": "#888888",
    "ef": "#d55e00",
    "dgc": "#cc79a7",
    "ef21": "#0072b2",
    "ef21_sgdm": "#56b4e9",
    "econtrol": "#009e73",
    "diana": "#e69f00",
}
COMPRESSORS = ["topk(0.05)", "sign", "q2"]


def colour(rule):
    return COLOURS[rule.split("(")[0]]


def save(figure, folder, name):
    figure.tight_layout()
    figure.savefig(folder / name, metadata={"Date": None})
    pyplot.close(figure)


def draw_descents(axes, rows, title):
    for row, label in rows:
        axes.plot(row["step"], row["distance_squared"], color=colour(row["rule"]), linewidth=1.2, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_title(title, fontsize=10)
    axes.grid(True, linewidth=0.3)


def known_answer(rows, folder):
    problems = ["quadratic", "logistic"]
    figure, grid = pyplot.subplots(len(problems), len(COMPRESSORS), figsize=(12, 7), sharex=True, sharey="row")
    for line, problem in zip(grid, problems):
        for axes, compressor in zip(line, COMPRESSORS):
            chosen = [
                (row, row["rule"])
                for row in rows
                if row["problem"] == problem and row["compressor"] == compressor
            ]
            draw_descents(axes, chosen, f"{problem}, {compressor}")
            axes.legend(fontsize=6, loc="upper right", bbox_to_anchor=(1, 0.83))
        line[0].set_ylabel("||x - x*||²")
    save(figure, folder, "convergence-known-answer.svg")


def noise_ball(rows, folder):
    figure, panes = pyplot.subplots(1, 2, figsize=(9, 4))
    for axes, varied, fixed in ((panes[0], "zeta", ("rate", 0.1)), (panes[1], "rate", ("zeta", 1))):
        for compressor in COMPRESSORS:
            points = {
                row[varied]: row["floor"]
                for row in rows
                if row["compressor"] == compressor and row[fixed[0]] == fixed[1] and row["zeta"] > 0
            }
            places = sorted(points)
            line = axes.plot(places, [points[place] for place in places], marker="o", label=compressor)[0]
            middle = places[len(places) // 2]
            axes.plot(
                places,
                [points[middle] * (place / middle) ** 2 for place in places],
                color=line.get_color(),
                linestyle=":",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(places)
        axes.set_xticklabels([f"{place:g}" for place in places])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(f"{varied}  ({fixed[0]} {fixed[1]})")
        axes.grid(True, which="both", linewidth=0.3)
    panes[0].set_ylabel("||x - x*||² at the end")
    panes[0].legend(title="EF; dotted: slope 2", fontsize=8)
    save(figure, folder, "convergence-ball.svg")


def tuned(cases, folder):
    figure, panes = pyplot.subplots(1, len(cases), figsize=(3.4 * len(cases), 4), sharey=True)
    for axes, case in zip(panes, cases):
        bars = case["best"]  # the first one is dense
        names = [("dense, " if bar["compressor"] == "none" else "") + bar["rule"] for bar in bars]
        axes.scatter(
            range(len(bars)),
            [bar["floor"] for bar in bars],
            color=["#000000" if bar["compressor"] == "none" else colour(bar["rule"]) for bar in bars],
        )
        axes.axhline(bars[0]["floor"], color="#000000", linewidth=0.6, linestyle=":")
        axes.set_xticks(range(len(bars)))
        axes.set_xticklabels(names, rotation=60, ha="right", fontsize=8)
        axes.set_yscale("log")
        axes.set_title(f"{case['compressor']}, zeta = {case['zeta']:g}", fontsize=10)
        axes.grid(True, axis="y", linewidth=0.3)
    panes[0].set_ylabel("||x - x*||² at the end, best rate and eta")
    save(figure, folder, "convergence-tuned.svg")


def two_steps(rows, folder):
    compressors = ["q4(bucket=32)", "sign(bucket=32)"]
    styles = {"one step": "--", "two steps": "-", "dropped": ":"}
    figure, grid = pyplot.subplots(2, len(compressors), figsize=(9, 7), sharex=True, sharey="row")
    for line, sigma in zip(grid, (0, 1)):
        for axes, compressor in zip(line, compressors):
            for row in rows:
                if row["compressor"] != compressor or row["sigma"] != sigma or row["rule"] == "none":
                    continue
                axes.plot(
                    row["step"],
                    row["distance_squared"],
                    color=colour(row["rule"]),
                    linestyle=styles[row["variant"]],
                    linewidth=1.2,
                    label=f"{row['rule']}, {row['variant']}",
                )
            axes.set_yscale("log")
            axes.set_title(f"{compressor}, sigma = {sigma}", fontsize=10)
            axes.grid(True, linewidth=0.3)
        line[0].set_ylabel("||x - x*||²")
    for axes in grid[-1]:
        axes.set_xlabel("step")
    grid[0][0].legend(fontsize=7)
    save(figure, folder, "convergence-two-steps.svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--out", default="docs/images")
    arguments = parser.parse_args()
    measured = json.loads(Path(arguments.file).read_text())
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    if "known_answer" in measured:
        known_answer(measured["known_answer"], folder)
    if "noise_ball" in measured:
        noise_ball(measured["noise_ball"], folder)
    if "tuned" in measured:
        tuned(measured["tuned"], folder)
    if "two_steps" in measured:
        two_steps(measured["two_steps"]["descents"], folder)


if __name__ == "__main__":
    main()
