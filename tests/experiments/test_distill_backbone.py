"""What the distillation of the embedded backbone rests on."""

import torch

from experiments import distill_backbone as distill
from naf.backbones.embedded import EmbeddedNetwork


def test_folded_norms_leave_the_function_as_it_was():
    torch.manual_seed(0)
    network = EmbeddedNetwork()
    plain = set(network.state_dict())
    distill.with_norms(network)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    network.eval()
    image = torch.rand(2, 3, 32, 48)
    before = distill.features(network, image)
    distill.without_norms(network)
    assert set(network.state_dict()) == plain
    for old, new in zip(before, distill.features(network, image), strict=True):
        torch.testing.assert_close(new, old, atol=1e-4 * old.abs().max().item(), rtol=1e-4)


def test_features_are_standardised_by_their_last_convolutions():
    torch.manual_seed(0)
    network = EmbeddedNetwork()
    images = [torch.rand(4, 3, 64, 64) for _ in range(2)]
    distill.standardize_features(network, images)
    for maps in zip(*(distill.features(network, image) for image in images), strict=True):
        values = torch.cat(maps).detach().transpose(0, 1).flatten(1)
        torch.testing.assert_close(values.mean(1), torch.zeros(len(values)), atol=1e-3, rtol=0)
        torch.testing.assert_close(values.std(1), torch.ones(len(values)), atol=1e-3, rtol=0)


def test_half_whitened_components_are_uncorrelated_with_root_variances():
    torch.manual_seed(0)
    mixing = torch.randn(6, 6)
    maps = [{"a.b": torch.einsum("cd,bdhw->bchw", mixing, torch.randn(4, 6, 8, 8)) + 3} for _ in range(4)]
    projection = distill.Projection.fit(iter(maps))["a_b"]
    values = torch.cat([projection(batch["a.b"]) for batch in maps]).transpose(0, 1).flatten(1)
    covariance = torch.cov(values, correction=0)
    variances = torch.linalg.eigvalsh(
        torch.cov(torch.cat([batch["a.b"] for batch in maps]).transpose(0, 1).flatten(1), correction=0)
    ).flip(0)
    torch.testing.assert_close(covariance, covariance.diag().diag(), atol=1e-4, rtol=0)
    expected = variances.sqrt() / variances.sqrt().mean()
    torch.testing.assert_close(covariance.diag(), expected, atol=1e-3, rtol=1e-3)
    assert values.mean(1).abs().max() < 1e-4


def test_longer_runs_are_the_same_until_the_shorter_one_ends_its_constant_rate():
    assert [distill.rate(step, 1000) for step in range(750)] == [distill.rate(step, 4000) for step in range(750)]
    assert 0 < distill.rate(999, 1000) < 0.01
