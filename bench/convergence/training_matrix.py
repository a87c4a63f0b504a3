"""What training.py runs: rules, compressors, and the learning rates that were found for them."""

COMPRESSORS = ["q4", "q2", "topk(0.01)", "topk(0.001)", "powersgd(rank=2)"]
RULES = ["none", "ef", "ef21", "ef21_sgdm", "econtrol", "diana", "dgc"]

SPECS = {"ef21_sgdm": "ef21_sgdm(0.1)", "econtrol": "econtrol(0.1)", "diana": "diana(0.1)", "dgc": "dgc(0.9)"}


def matrix_scheme(compressor, rule):
    """diana is for unbiased compressors: its quantisers round stochastically."""
    if rule == "diana" and compressor in ("q4", "q2"):
        compressor += "(round=stochastic)"
    return f"{compressor}+{SPECS.get(rule, rule)}"


LEARNING_RATES = {
    "fashion": {"dense": 0.1, "none": 0.03, "ef": 0.03, "ef21": 0.1, "ef21_sgdm": 0.3, "econtrol": 0.03, "diana": 0.03, "dgc": 0.03},
    "kjv": {"dense": 0.5, "none": 0.5, "ef": 0.5, "ef21": 0.5, "ef21_sgdm": 5, "econtrol": 0.5, "diana": 0.5, "dgc": 0.5},
}

TARGETS = {"iid": [("dense", 0.1)], "skew": [("dense", 0.1)]}
