"""The picture of training curves in docs/training.md, from the metrics that runs of `naf train` leave.

    python experiments/training_curves.py --output docs/images/training.png out/train/naf out/train/naf+

Left, the training loss, a mean over a fifth of the run divided by the first of them: photos differ more than steps do.
Right, the error on held-out photos divided by that of bilinear interpolation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from naf.data.atomic import replace_file
from naf.training.metrics_file import read_metrics

WINDOW = 0.2  # of the run


def main() -> None:
    """Draw one line a run into each panel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    train, held_out = figure.subplots(1, 2)
    for run in args.runs:
        rows = read_metrics(run / "metrics.csv")
        steps, losses = np.array([(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]).T
        count = max(1, round(WINDOW * len(steps)))
        smooth = np.convolve(losses, np.ones(count) / count, mode="valid")
        train.plot(steps[count - 1 :], smooth / smooth[0], label=run.name)
        errors = [(row["step"], row["val/over_bilinear"]) for row in rows if "val/over_bilinear" in row]
        held_out.plot(*np.array(errors).T, marker="o", markersize=3, label=run.name)
    held_out.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    held_out.annotate("bilinear", (0, 1), xytext=(3, 3), textcoords="offset points", color="grey")
    for axes, title in ((train, "training loss, relative"), (held_out, "held-out error over that of bilinear")):
        axes.set_title(title, loc="left")
        axes.set_xlabel("step")
        axes.grid(axis="y", alpha=0.3)
    figure.legend(*train.get_legend_handles_labels(), loc="outside right center", frameon=False)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(args.output, lambda path: figure.savefig(path, dpi=160, format=args.output.suffix[1:]))


if __name__ == "__main__":
    main()
