"""Time and memory of the upsamplers at one setting, where checkouts are given beside the authors' own code.

The default is the setting of the efficiency table of the NAF paper: features (1, 384, 28, 28), image and output
448x448, float32, inference. Rounds go through all modules in turn, so that a machine that slows down slows all of
them; medians are reported.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from naf.benchmark.measure import machine, measure
from naf.benchmark.official import Checkout, OfficialModule, Setting, copy_weights, named_module
from naf.registry import Entry, create, entry, list_upsamplers
from naf.upsamplers.checks import whole_number


@dataclass(frozen=True)
class Cost:
    """What a call of a module takes.

    Attributes:
        time_ms: median of the rounds.
        spread: slowest over fastest round.
        peak_mib: highest memory above what was in use before the call, output included; CPU: resident, CUDA: allocated.
        parameters: learned values.
    """

    time_ms: float
    spread: float
    peak_mib: float
    parameters: int


@dataclass(frozen=True)
class OfficialCost:
    """The authors' code beside ours.

    Attributes:
        repository: where it is from.
        cost: what a call takes.
        time_ratio: its time over ours.
        memory_ratio: its peak memory over ours; None where ours is too small to be seen.
        difference: greatest difference of the outputs over the greatest official value, with equal weights; None
            where the state dicts have other names or shapes.
    """

    repository: str
    cost: Cost
    time_ratio: float
    memory_ratio: float | None
    difference: float | None


@dataclass(frozen=True)
class PeerCost:
    """One upsampler: our cost, and the authors' where a checkout has it."""

    upsampler: str
    ours: Cost
    official: tuple[OfficialCost, ...] = ()


@dataclass(frozen=True)
class PeersReport:
    """Result of :func:`peers`.

    Attributes:
        results: a record for each upsampler.
        left_out: upsamplers that need a backbone or must be fitted to the image.
        failures: what could not be measured, a line each.
        setting: sizes, rounds, machine, versions.
    """

    results: tuple[PeerCost, ...]
    left_out: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    setting: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass
class _Runner:
    """A module under measurement; `repository` is empty for ours."""

    name: str
    repository: str
    module: nn.Module
    run: Callable[[], Tensor]
    active: Callable[[], AbstractContextManager[None]] = nullcontext  # within it the module finds its own imports
    has_our_weights: bool = True
    difference: float | None = None
    times: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.name} of {self.repository}" if self.repository else self.name

    def cost(self) -> Cost:
        return Cost(
            time_ms=statistics.median(self.times),
            spread=max(self.times) / min(self.times),
            peak_mib=max(self.peaks),
            parameters=sum(parameter.numel() for parameter in self.module.parameters()),
        )


def peers(
    names: Sequence[str] | None = None,
    *,
    official: Iterable[Path] = (),
    modules: Mapping[str, str] | None = None,
    channels: int = 384,
    side: int = 448,
    grid: int = 28,
    image_side: int | None = None,
    rounds: int = 5,
    device: torch.device | str = "cpu",
    on_call: Callable[[str, int, int], None] = lambda *_: None,
) -> PeersReport:
    """Measure upsamplers, untrained, one after the other in each of several rounds after one of warm-up.

    Args:
        names: upsamplers; None for all that are registered.
        official: checkouts of authors' repositories. **Their code is run.** What cannot be found, imported or called
            there is told in the report and does not stop the rest.
        modules: upsampler → "package.module:Class", for what is in none of the known places of a checkout; called
            (image, features, output_size).
        channels: of the features.
        side: of the output, pixels.
        grid: rows and columns of the features.
        image_side: of the image, pixels; None for as many as the output has. The NAF paper keeps 448 at all ratios.
        rounds: measured rounds.
        device: where.
        on_call: told before each call and at the end: what is called, the calls made, the calls to make.

    Returns:
        The report.

    Raises:
        ValueError: for unknown upsamplers, sizes that are no positive whole numbers, or nothing to measure.
    """
    device, rounds = torch.device(device), whole_number("rounds", rounds, 1)
    setting = Setting(
        whole_number("channels", channels, 1),
        whole_number("side", side, 1),
        whole_number("grid", grid, 1),
        whole_number("image_side", side if image_side is None else image_side, 1),
    )
    entries = [entry(name) for name in dict.fromkeys(list_upsamplers() if names is None else names)]
    left_out = tuple(about.name for about in entries if needs_more(about))
    chosen = [about for about in entries if about.name not in left_out]
    if not chosen:
        raise ValueError(f"nothing to measure: {', '.join(left_out) or 'no upsampler'} given, expected one that needs "
                         "neither a backbone nor a fit to the image")  # fmt: skip
    failures: list[str] = []
    offers = _offers([about.name for about in chosen], setting, official, modules or {}, failures)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, setting.image_side, setting.image_side, generator=generator).to(device)
    features = torch.randn(1, channels, grid, grid, generator=generator).to(device)
    groups: list[list[_Runner]] = []
    with torch.inference_mode():
        for place, about in enumerate(chosen):
            on_call(about.name, place, len(chosen) * (rounds + 1))
            groups.append(_ready(about, offers, setting, image, features, failures))
        runners = [runner for group in groups for runner in group]
        for index in range(rounds):
            for place, runner in enumerate(runners):
                on_call(runner.label, (index + 1) * len(runners) + place, (rounds + 1) * len(runners))
                _measure(runner, device)
    on_call("", 1, 1)
    return PeersReport(
        results=tuple(_compare(group) for group in groups if group),
        left_out=left_out,
        failures=tuple(failures),
        setting={
            "image": [setting.image_side, setting.image_side],
            "output": [side, side],
            "features": [1, channels, grid, grid],
            "dtype": "float32",
            "rounds": rounds,
            **machine(device),
        },
    )


def _offers(
    names: Sequence[str], setting: Setting, paths: Iterable[Path], modules: Mapping[str, str], failures: list[str]
) -> list[tuple[Checkout, OfficialModule]]:
    """What the checkouts have of the chosen upsamplers."""
    checkouts = []
    for path in paths:
        if path.is_dir():
            checkouts.append(Checkout(path))
        else:
            failures.append(f"{path}: no such folder")
    offers = []
    for method, reference in modules.items():
        holder = next((checkout for checkout in checkouts if checkout.holds(reference)), None)
        if method not in names:
            failures.append(f"{reference}: {method} is not among the measured upsamplers")
        elif holder is None:
            failures.append(f"{method}: {reference} is in none of the given repositories")
        else:
            config = entry(method).config_for(setting.channels, setting.stride)
            offers.append((holder, named_module(method, reference, config)))
    named = {(checkout.path, module.method) for checkout, module in offers}
    for checkout in checkouts:
        known = () if checkout.layout is None else checkout.layout.modules
        fitting = [module for module in known if module.method in names and (checkout.path, module.method) not in named]
        offers += [(checkout, module) for module in fitting]
        if not any(checkout is holder for holder, _ in offers):
            failures.append(
                f"{checkout.name}: none of the measured upsamplers, it has {', '.join(m.method for m in known)}"
                if known
                else f"{checkout.path}: not a repository that is known; name its modules (--module NAME=MODULE:CLASS)"
            )
    return offers


def _ready(
    about: Entry,
    offers: Sequence[tuple[Checkout, OfficialModule]],
    setting: Setting,
    image: Tensor,
    features: Tensor,
    failures: list[str],
) -> list[_Runner]:
    """Our module and the authors', made and called once; empty where ours cannot serve the setting."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            ours = create(about.name, weights=None, **about.config_for(setting.channels, setting.stride)).to(
                image.device
            )
        out = ours(image, features, setting.size)
    except (ValueError, RuntimeError) as error:
        failures.append(f"{about.name}: {_words(error)}")
        return []
    runners = [_Runner(about.name, "", ours, lambda: ours(image, features, setting.size))]
    for checkout, official in offers:
        if official.method == about.name:
            try:
                runner = _official_runner(checkout, official, ours, setting, image, features)
                _check(runner, out)
            except (Exception, SystemExit) as error:  # someone else's code: anything may happen
                needs = f" (it needs {official.needs})" if official.needs else ""
                failures.append(f"{about.name} of {checkout.name}: {_words(error)}{needs}")
            else:
                runners.append(runner)
    return runners


def _official_runner(
    checkout: Checkout, official: OfficialModule, ours: Any, setting: Setting, image: Tensor, features: Tensor
) -> _Runner:
    module = checkout.build(official, setting, image.device)

    return _Runner(
        official.method,
        checkout.name,
        module,
        run=lambda: official.call(module, image, features, setting.size),
        active=checkout.active,
        has_our_weights=copy_weights(ours, module, type(ours).adapt_state),
    )


def _check(runner: _Runner, ours: Tensor) -> None:
    """Call the authors' module once and compare its output with ours."""
    with runner.active():
        out = runner.run()
    if out.shape != ours.shape:
        raise ValueError(f"its output has shape {tuple(out.shape)}, expected {tuple(ours.shape)}")
    if runner.has_our_weights:
        greatest = torch.linalg.vector_norm(out, math.inf).clamp_min(torch.finfo(out.dtype).tiny)
        runner.difference = float(torch.linalg.vector_norm(out - ours, math.inf) / greatest)
        if not math.isfinite(runner.difference):
            raise ValueError("its output or ours has values that are not finite")


def _measure(runner: _Runner, device: torch.device) -> None:
    with runner.active(), measure(device) as usage:
        out = runner.run()
    del out
    runner.times.append(usage.seconds * 1e3)
    runner.peaks.append(usage.above_mib)


def _compare(group: Sequence[_Runner]) -> PeerCost:
    ours = group[0].cost()
    official = []
    for runner in group[1:]:
        cost = runner.cost()
        memory_ratio = cost.peak_mib / ours.peak_mib if ours.peak_mib > 0 else None
        time_ratio = cost.time_ms / ours.time_ms
        official.append(OfficialCost(runner.repository, cost, time_ratio, memory_ratio, runner.difference))
    return PeerCost(group[0].name, ours, tuple(official))


def needs_more(about: Entry) -> bool:
    """Whether features and image are not enough: a backbone makes the output, or a fit to the image."""
    return about.needs_backbone or about.cls.fits_one_image or not about.cls.uses_features


def _words(error: BaseException) -> str:
    """Kind and first line of an error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
