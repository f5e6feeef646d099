"""Made-up records."""

from naf.evaluation.record import EvaluationRecord

SETTINGS = {"image_size": 448, "epochs": 20, "ratio": 16}


def run(upsampler="naf", miou=50.0, *, seed=0, **more):
    """A segmentation probe, or what the keywords say."""
    about = {
        "task": "segmentation",
        "protocol": "paper",
        "dataset": "camvid",
        "images": {"train": 130, "val": 70},
        "backbone": "embedded",
        "stride": 16,
        "channels": 384,
        "settings": SETTINGS,
        "metrics": {"miou": miou},
        "seconds": 10.0,
        "machine": "some machine",
        "commit": "abc1234",
        "command": "naf eval segmentation dataset=camvid",
        "finished": "2026-01-01T00:00:00Z",
    }
    return EvaluationRecord(upsampler=upsampler, seed=seed, **(about | more))


def write(folder, *records):
    """One file a record."""
    for index, record in enumerate(records):
        record.write(folder / f"{index}.json")
