"""Settings of the probes."""

import re
from dataclasses import replace

import pytest

from naf.evaluation.protocol import ProbeProtocol, deviations, protocol_from


def test_the_papers_settings_are_the_defaults():
    expected = {
        "image_size": 448,
        "target_size": 448,
        "guidance_size": None,
        "geometry": "square",
        "upsample": "full",
        "epochs": 20,
        "batch_size": 2,
        "lr": 5e-4,
        "weight_decay": 1e-5,
        "schedule": "per_iteration",
        "flip": 0.5,
        "shared_order": False,
        "standardize": False,
        "pixels": None,
    }
    assert ProbeProtocol().settings() == expected
    assert protocol_from(ProbeProtocol, {}) == ProbeProtocol()


def test_whole_numbers_serve_as_numbers():
    assert protocol_from(ProbeProtocol, {"flip": 0, "lr": 1}) == replace(ProbeProtocol(), flip=0.0, lr=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lrr": 1.0}, "protocol.lrr is unknown, expected one of name, image_size"),
        ({"lr": "fast"}, "protocol.lr is 'fast', expected a number"),
        ({"lr": True}, "protocol.lr is True, expected a number"),
        ({"lr": 0.0}, "protocol.lr is 0.0 and weight_decay"),
        ({"lr": float("nan")}, "protocol.lr is nan"),
        ({"weight_decay": -1.0}, "weight_decay -1.0, expected positive"),
        ({"epochs": 2.5}, "protocol.epochs is 2.5, expected a whole number"),
        ({"epochs": 0}, "protocol.epochs is 0, expected at least 1"),
        ({"batch_size": None}, "protocol.batch_size is None, expected a whole number"),
        ({"guidance_size": "large"}, "protocol.guidance_size is 'large', expected a whole number or null"),
        ({"schedule": "linear"}, "protocol.schedule is 'linear', expected one of per_iteration, per_epoch, jafar_bug"),
        ({"geometry": ["crop"]}, "protocol.geometry is"),
        ({"upsample": "none"}, "protocol.upsample is 'none', expected one of full, filter"),
        ({"standardize": 1}, "protocol.standardize is 1, expected true or false"),
        ({"flip": 1.5}, "protocol.flip is 1.5, expected a probability"),
        ({"pixels": 5}, "protocol.flip is above 0, expected 0 where pixels are drawn once"),
        ({"pixels": 0}, "protocol.pixels is 0"),
        ({"pixels": 5, "flip": 0, "upsample": "filter"}, "protocol.pixels is set, expected null where"),
    ],
)
def test_errors_name_the_key(values, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        protocol_from(ProbeProtocol, values)
    assert "\n" not in str(caught.value)


def test_deviations_are_the_settings_that_differ():
    plain = ProbeProtocol().settings()
    assert deviations(plain, plain) == {}
    assert deviations(replace(ProbeProtocol(), lr=1e-4, name="own").settings(), plain) == {"lr": 1e-4}
