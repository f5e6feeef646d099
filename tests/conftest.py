"""Shared settings: two threads, hypothesis without deadlines or chance, Triton's interpreter where no GPU is."""

import importlib.util
import logging
import os

# Threads that wait sleep: spinning ones make small operations slow beside other programs. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.helpers import GOLDENS, NO_GOLDENS

torch.set_num_threads(2)

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are defined

settings.register_profile(
    "naf",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    # Fixtures that undo a monkeypatch are the same for every example.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("naf")


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws without a generator of its own does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def log_level():
    """The command line quiets the library's log for its own process, which here is that of all tests."""
    log = logging.getLogger("naf")
    before = log.level
    yield
    log.setLevel(before)


@pytest.fixture(scope="session")
def fill():
    """The goldens' own reader."""
    if not GOLDENS.is_dir():
        pytest.skip(NO_GOLDENS)
    spec = importlib.util.spec_from_file_location("goldens_fill", GOLDENS / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
