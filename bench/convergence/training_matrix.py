"""What training.py runs: rules, compressors, and the learning rates that were found for them (training/README.md)."""

COMPRESSORS = ["q4", "q2", "topk(0.01)", "topk(0.001)", "powersgd(rank=2)"]
RULES = ["none", "ef", "ef21", "ef21_sgdm", "econtrol", "diana", "dgc"]

SPECS = {"ef21_sgdm": "ef21_sgdm(0.1)", "econtrol": "econtrol(0.05)", "diana": "diana(0.1)", "dgc": "dgc(0.9)"}


def matrix_scheme(compressor, rule):
    """diana is for unbiased compressors: its quantisers round stochastically. Masking is for sparse ones (docs/feedback.md)."""
    if compressor in ("q4", "q2"):
        if rule == "diana":
            compressor += "(round=stochastic)"
        if rule == "dgc":
            return f"{compressor}+dgc(0.9,masking=no)"
    return f"{compressor}+{SPECS.get(rule, rule)}"


# Tuning: learning rate and the optimiser's momentum.
DENSE_TUNING = {"fashion": (0.1, 0.9), "kjv": (4, 0.9)}

# What was found with topk(0.01).
TUNED = {
    "fashion": {
        "none": (0.4, 0),
        "ef": (0.4, 0),
        "ef21": (0.2, 0),
        "ef21_sgdm": (0.5, 0),
        "econtrol": (0.2, 0),
        "diana": (0.1, 0),
        "dgc": (0.03, 0),
    },
    "kjv": {
        "none": (10, 0),
        "ef": (10, 0),
        "ef21": (10, 0),
        "ef21_sgdm": (10, 0),
        "econtrol": (10, 0),
        "diana": (10, 0),
        "dgc": (2, 0),
    },
}


def tuning(task, rule, compressor):
    """Quantisers lose so little that dense's rate and momentum serve, where need be in the rule: ef21_sgdm's momentum is
    normalised, so its rate is that over eta."""
    if compressor not in ("q4", "q2"):
        return TUNED[task][rule]
    rate, momentum = DENSE_TUNING[task]
    return {"dgc": (rate, 0), "ef21_sgdm": (round(10 * rate, 6), 0)}.get(rule, (rate, momentum))


# Fashion-MNIST on 4 ranks, beyond the matrix: what comes near to dense at a high ratio, and what might have.
TARGETS = {
    "iid": [
        ("dense", (0.1, 0.9)),
        ("powersgd(rank=1)+ef", (0.3, 0)),
        ("topk(0.0145)|q4+ef", (0.6, 0)),
        ("topk(0.0125)|q4+ef", (0.6, 0)),
        ("topk(0.001)+ef", (0.2, 0)),
        ("topk(0.001)+dgc(0.9)", (0.03, 0)),
        ("sign+onebit_adam(150)", (0.002, 0)),
    ],
    "skew": [
        ("dense", (0.1, 0.9)),
        ("powersgd(rank=4)+ef", (0.3, 0)),
        ("topk(0.05)|q4+ef", (0.4, 0)),
        ("topk(0.01)+ef", (0.4, 0)),
        ("sign+onebit_adam(150)", (0.002, 0)),
    ],
}
