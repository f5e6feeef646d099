"""`naf.compile`: its bookkeeping with a stand-in for CUDA graphs, real ones where there is a GPU."""

import copy
import logging
import pickle

import pytest
import torch

import naf
from naf import compilation
from tests.helpers import randn, relative_error, small

SIZE, GRID = (12, 15), (4, 5)


@pytest.fixture
def captures(monkeypatch):
    """Lets the CPU record: a recording computes again and puts the result in the same place. Lists the recordings."""
    made = []

    def capture(forward, pool):
        out, tables = forward()
        made.append(out)
        return lambda: out.copy_(forward()[0]), (out, tables)

    monkeypatch.setattr(compilation, "_has_graphs", lambda x: True)
    monkeypatch.setattr(compilation, "_new_pool", object)
    monkeypatch.setattr(compilation, "_capture", capture)
    return made


@pytest.fixture
def upsampler():
    return naf.compile(copy.deepcopy(small("naf")), graphs=2)


def scene(seed=0, dtype=torch.float32, size=SIZE):
    return randn(2, 3, *size, seed=seed, dtype=dtype), randn(2, 8, *GRID, seed=seed + 1, dtype=dtype), size


def expected(seed=0, dtype=torch.float32, size=SIZE):
    return copy.deepcopy(small("naf")).to(dtype)(*scene(seed, dtype, size))


def test_the_second_call_records_and_later_ones_replay(captures, upsampler):
    outs, counts = [], []
    for seed in range(4):
        outs.append(upsampler(*scene(seed)))
        counts.append(len(captures))
    assert counts == [0, 1, 1, 1]
    for seed, out in enumerate(outs):  # outputs of earlier calls stay as they were
        torch.testing.assert_close(out, expected(seed), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("other", [{"size": (16, 15)}, {"dtype": torch.float64}], ids=["size", "dtype"])
def test_other_inputs_have_recordings_of_their_own(captures, upsampler, other):
    for _ in range(3):
        upsampler(*scene())
        if "dtype" not in other:
            torch.testing.assert_close(upsampler(*scene(1, **other)), expected(1, **other), rtol=1e-5, atol=1e-5)
        else:
            assert upsampler(*scene(1, **other)).dtype == other["dtype"]
    assert len(captures) == 2


def test_the_recording_used_longest_ago_is_dropped(captures, upsampler):
    first, second, third = (scene(size=(height, 15)) for height in (12, 13, 14))
    for inputs in (first, second, first, second, third):
        upsampler(*inputs)
    assert len(captures) == 2
    upsampler(*second)
    assert len(captures) == 2
    upsampler(*first)
    upsampler(*first)
    assert len(captures) == 3


def test_new_values_of_the_parameters_are_seen_and_moved_ones_recorded_anew(captures, upsampler):
    for _ in range(2):
        upsampler(*scene())
    with torch.no_grad():
        upsampler.image_encoder.encoder[0].weight.neg_()
    fresh = copy.deepcopy(small("naf"))
    fresh.load_state_dict(upsampler.state_dict())
    torch.testing.assert_close(upsampler(*scene()), fresh(*scene()), rtol=1e-5, atol=1e-5)
    assert len(captures) == 1
    weight = upsampler.image_encoder.encoder[0].weight
    weight.data = weight.data.clone()
    upsampler(*scene()), upsampler(*scene())
    assert len(captures) == 2
    upsampler.double()
    for _ in range(2):
        torch.testing.assert_close(upsampler(*scene()), fresh.double()(*scene()), rtol=1e-5, atol=1e-5)
    assert len(captures) == 3


def test_gradients_training_and_options_run_as_ever(captures, upsampler):
    image, features, size = scene()
    for _ in range(3):
        upsampler(image, features.requires_grad_(), size).sum().backward()
        out, scores = upsampler(image, features.detach(), size, return_weights=True)
        upsampler.train()(image, features.detach(), size)
        upsampler.eval()
    assert features.grad.abs().sum() > 0
    assert scores.shape == (2, 4, *SIZE, GRID[0] * GRID[1])  # the kernel shrinks to the grid
    torch.testing.assert_close(out, expected())
    assert not captures


def test_an_image_with_nan_is_refused_in_a_replay_too(captures, upsampler):
    for _ in range(2):
        upsampler(*scene())
    image, features, size = scene()
    image[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="image holds 1 NaN"):
        upsampler(image, features, size)


def test_an_image_that_does_not_matter_may_hold_nan_in_a_replay_too(captures):
    upsampler = naf.compile(naf.create("bilinear"))
    image, features, size = scene()
    outs = [upsampler(image.fill_(torch.nan), features, size) for _ in range(3)]
    assert len(captures) == 1
    assert all(out.isfinite().all() for out in outs)


def test_recordings_of_inference_mode_serve_calls_outside_it(captures, upsampler):
    with torch.inference_mode():
        for _ in range(2):
            upsampler(*scene())
    out = upsampler(*scene(1))
    torch.testing.assert_close(out, expected(1), rtol=1e-5, atol=1e-5)
    assert len(captures) == 1
    assert not out.is_inference()


def test_what_cannot_be_recorded_runs_as_before_and_says_so(captures, upsampler, monkeypatch, caplog):
    def fail(forward, pool):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(compilation, "_capture", fail)
    with caplog.at_level(logging.WARNING, logger="naf"):
        for seed in range(3):
            torch.testing.assert_close(upsampler(*scene(seed)), expected(seed))
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["No CUDA graph of NAF at (12"]


def test_all_else_of_the_upsampler_stays(captures, upsampler):
    plain = small("naf")
    assert isinstance(upsampler, type(plain))
    assert upsampler.state_dict().keys() == plain.state_dict().keys()
    assert upsampler.kernel_size == plain.kernel_size
    image, features, size = scene()
    torch.testing.assert_close(upsampler.encode(image, size, GRID).upsample(features), expected())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_record_for_themselves(captures, upsampler, duplicate):
    for _ in range(2):
        upsampler(*scene())
    twin = duplicate(upsampler)
    with torch.no_grad():
        twin.image_encoder.encoder[0].weight.neg_()
    for _ in range(2):
        out = twin(*scene())
    assert len(captures) == 2
    assert relative_error(out, expected()) > 1e-3
    torch.testing.assert_close(upsampler(*scene()), expected(), rtol=1e-5, atol=1e-5)


def test_without_cuda_nothing_is_recorded(monkeypatch):
    monkeypatch.setattr(compilation, "_capture", None)
    upsampler = naf.compile(copy.deepcopy(small("naf")))
    for seed in range(3):
        torch.testing.assert_close(upsampler(*scene(seed)), expected(seed))


@pytest.mark.parametrize("records", [True, False], ids=["with_autograd", "no_grad"])
@pytest.mark.parametrize("compiled", [False, True], ids=["upsampler", "naf.compile"])
def test_torch_compile_takes_the_forward_without_graph_breaks(compiled, records):
    upsampler = copy.deepcopy(small("naf"))
    if compiled:
        naf.compile(upsampler)
    torch._dynamo.reset()
    run = torch.compile(upsampler, fullgraph=True, backend="eager")
    with torch.set_grad_enabled(records):
        for seed in range(2):
            torch.testing.assert_close(run(*scene(seed)), expected(seed), rtol=1e-5, atol=1e-5)


def test_only_upsamplers_are_compiled():
    with pytest.raises(TypeError, match=r"upsampler is a Linear, expected a naf\.Upsampler"):
        naf.compile(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="graphs is 0, expected an integer of at least 1"):
        naf.compile(small("naf"), graphs=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cuda_graphs_give_the_eager_outputs(dtype):
    plain = copy.deepcopy(small("naf")).to("cuda", dtype)
    upsampler = naf.compile(copy.deepcopy(plain), graphs=2)
    for seed in range(4):
        for size in (SIZE, (16, 20)):
            image, features, _ = scene(seed, dtype, size)
            inputs = image.cuda(), features.cuda(), size
            torch.testing.assert_close(upsampler(*inputs), plain(*inputs))
    recorded = [r for r in upsampler.forward._replays.values() if isinstance(r, compilation._Recording)]
    assert len(recorded) == 2
