"""Results for the card of weights that the package carries: the linear probe and the held-out loss, in one JSON file.

    python experiments/card_results.py naf --probe out/eval/camvid --held-out out/held_out_loss.json --out FILE.json
    naf export RUN -o src/naf/assets/naf.safetensors --evaluation FILE.json

The probe's folder is that of `naf eval segmentation experiment=eval_camvid`, the other file that of held_out_loss.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from naf.data.atomic import replace_file
from naf.evaluation.report_metrics import metric
from naf.evaluation.report_records import read_records
from naf.evaluation.report_tables import groups, table

COMPARED = ("bilinear", "nearest")


def probe(folder: Path, name: str) -> dict[str, Any]:
    """Mean IoU of an upsampler and of those it is compared with, by backbone, under a heading that says the setting."""
    found = groups(run for run in read_records(folder) if run.upsampler in (name, *COMPARED))
    if len(found) != 1:
        raise SystemExit(f"{folder} holds {len(found)} kinds of runs of {name}, expected one")
    (group,) = found
    rows: dict[str, dict[str, float]] = {}
    for (label, column), cell in table(group, metric("miou")).cells.items():
        row = rows.setdefault(column.label, {})
        row[label] = round(cell.mean, 2)
        if label == name and cell.deviation is not None:
            row["deviation over seeds"] = round(cell.deviation, 2)
    images = f"{group.images['train']} training and {group.images['val']} test images"
    return {f"Linear probe on {group.dataset}, {images}, protocol {group.protocol}, mean IoU": rows}


def held_out(path: Path, name: str) -> dict[str, Any]:
    """Squared errors by backbone."""
    found = json.loads(path.read_text())
    rows = {
        backbone: {label: round(errors[label], 3) for label in (name, *COMPARED)}
        for backbone, errors in found["mean_squared_error"].items()
    }
    return {f"Squared error on {found['photos']} held-out photos, 10x10 to 20x20 cells": rows}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upsampler")
    parser.add_argument("--probe", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    results = {**probe(args.probe, args.upsampler), **held_out(args.held_out, args.upsampler)}
    text = json.dumps(results, indent=2) + "\n"
    replace_file(args.out, lambda temporary: temporary.write_text(text))


if __name__ == "__main__":
    main()
