"""What `peers_relevance.py` compares: how each library is asked for relevance on one net."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import relevance
from benchmarks.nets import Net
from benchmarks.peer_nets import Attend, Plus, StackedSum, TokenMean, copied

THREADS = 2
EPSILON = 1e-6
COMPILED = ("epsilon", "attn_lrp")
"""Ours that are also measured by ``torch.compile``, which takes a minute each."""
Run = Callable[[], Any]


@dataclass
class Bench:
    """One net, its two versions, and the class that every tool explains: the first, for each sample."""

    net: Net
    model: keras.Model
    module: nn.Sequential
    x: Tensor
    target: int = 0
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def copy(self, summing: Callable[[], nn.Module] = Plus) -> nn.Sequential:
        """A further torch copy, for a library that changes the modules."""
        return copied(self.net, self.model, summing)

    def gradient(self) -> Tensor:
        """The plain gradient of the target's logit: the denominator."""
        return pullback(self.module, self.x, self.target)


def pullback(module: Callable[[Tensor], Tensor], x: Tensor, target: int) -> Tensor:
    """Gradient times input of one logit, whatever the module's backward pass has become."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, target].sum(), x)
    return gradient


def zennit(bench: Bench) -> dict[str, Run]:
    """Its epsilon everywhere, and its composites."""
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonAlpha2Beta1, EpsilonPlus, LayerMapComposite
    from zennit.layer import Sum
    from zennit.rules import Epsilon, Gamma, Norm, Pass
    from zennit.types import Activation, AvgPool, Linear

    def merged() -> list[Any]:
        return [SequentialMergeBatchNorm()] if bench.net.name in ("cnn", "resnet18") else []

    def base(rule: Any) -> list[tuple[Any, Any]]:
        return [(Activation, Pass()), (Sum, Norm()), (AvgPool, Norm()), (Linear, rule)]

    composites = {
        "zennit Epsilon": LayerMapComposite(base(Epsilon(EPSILON)), canonizers=merged()),
        "zennit EpsilonPlus": EpsilonPlus(canonizers=merged()),
        "zennit EpsilonAlpha2Beta1": EpsilonAlpha2Beta1(canonizers=merged()),
        "zennit Gamma": LayerMapComposite(base(Gamma(0.25)), canonizers=merged()),
    }
    runs: dict[str, Run] = {}
    for name, composite in composites.items():
        # Registered once, as a user with many batches would; each on its own copy.
        module = bench.copy(lambda: StackedSum(Sum(dim=-1)))
        hooked = bench.stack.enter_context(composite.context(module))
        seeded = _zennit_seed(hooked, bench)
        runs[name] = seeded
    return runs


def _zennit_seed(module: nn.Module, bench: Bench) -> Run:
    def run() -> Tensor:
        x = bench.x.detach().requires_grad_()
        out = module(x)
        seed = torch.zeros_like(out)
        seed[:, bench.target] = out[:, bench.target].detach()
        return torch.autograd.grad(out, x, seed)[0]

    return run


def captum(bench: Bench) -> dict[str, Run]:
    """Its LRP with the default rules; what has none is a flattening, which keeps relevance."""
    from captum.attr import LRP
    from captum.attr._utils.custom_modules import Addition_Module
    from captum.attr._utils.lrp_rules import EpsilonRule

    module = bench.copy(Addition_Module)
    flat = [part for part in module.modules() if isinstance(part, nn.Flatten)]

    def run() -> Tensor:
        for part in flat:
            part.rule = EpsilonRule()  # taken away after each call
        return LRP(module).attribute(bench.x.detach(), target=bench.target)

    return {"captum LRP": run}


def lxt(bench: Bench) -> dict[str, Run]:
    """AttnLRP, by LXT's explicit functions and by its gradient identities."""
    if bench.net.name != "encoder":
        return {}
    explicit, efficient = bench.copy(), bench.copy()
    _explicit(explicit)
    _efficient(efficient)
    return {
        "LXT explicit": lambda: _explicit_seed(explicit, bench),
        "LXT efficient": lambda: pullback(efficient, bench.x, bench.target),
    }


def _explicit_seed(module: nn.Module, bench: Bench) -> Tensor:
    x = bench.x.detach().requires_grad_()
    logit = module(x)[:, bench.target]
    return torch.autograd.grad(logit, x, logit.detach())[0]


def _explicit(module: nn.Module) -> None:
    import lxt.explicit.functional as rules

    def linear(part: nn.Linear) -> Callable[[Tensor], Tensor]:
        return lambda x: rules.linear_epsilon(x, part.weight, part.bias, EPSILON)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = rules.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
        return rules.matmul(rules.softmax(scores, -1), v)

    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.forward = linear(part)
        elif isinstance(part, nn.LayerNorm):
            part.forward = _with(rules.layer_norm, part)
        elif isinstance(part, nn.GELU):
            part.forward = lambda x: rules.identity(functional.gelu, x) if hasattr(rules, "identity") else _identity(x)
        elif isinstance(part, Plus):
            part.forward = lambda a, b: rules.add2(a, b)
        elif isinstance(part, Attend):
            part.forward = attend
        elif isinstance(part, TokenMean):
            part.forward = lambda x: rules.mean(x, 1, False)


def _with(rule: Callable[..., Tensor], part: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    return lambda x: rule(x, part.weight, part.bias, part.eps)


def _identity(x: Tensor) -> Tensor:
    from lxt.explicit.rules import identity

    return identity(functional.gelu, x)


def _efficient(module: nn.Module) -> None:
    rules = _efficient_rules()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (rules.divide_gradient(t, n) for t, n in ((q, 4), (k, 4), (v, 2)))
        return functional.scaled_dot_product_attention(q, k, v)

    def normalise(part: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            centred = x - x.mean(-1, keepdim=True)
            scale = rules.stop_gradient((centred**2).mean(-1, keepdim=True).add(part.eps).rsqrt())
            return centred * scale * part.weight + part.bias

        return forward

    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.forward = normalise(part)
        elif isinstance(part, nn.GELU):
            part.forward = lambda x: rules.identity_rule_implicit(functional.gelu, x)
        elif isinstance(part, Attend):
            part.forward = attend


def _efficient_rules() -> types.ModuleType:
    # By its path: the package around it imports model files of transformers, which are not here.
    home = importlib.util.find_spec("lxt").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("lxt_efficient_rules", Path(home) / "efficient" / "rules.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dl_backtrace(bench: Bench) -> dict[str, Run]:
    """Its default mode: one prediction and one evaluation; on one sample where a batch would take minutes."""
    if not hasattr(torch.export, "export_for_training"):
        torch.export.export_for_training = torch.export.export  # gone from PyTorch; the library asks for it
    from dl_backtrace.pytorch_backtrace import DLBacktrace

    with _kept_settings():
        traced = DLBacktrace(bench.copy(), input_for_graph=(bench.x,), device="cpu", verbose=False)

    def run() -> Any:
        with _kept_settings():
            traced.predict(bench.x)
            return traced.evaluation("default", 1.0, 0, 0.5, "multi-class classification")

    return {"dl-backtrace default": run}


@contextlib.contextmanager
def _kept_settings() -> Iterator[None]:
    # It turns gradients, threads, oneDNN and nondeterminism off for the whole process.
    mkldnn = torch.backends.mkldnn.enabled
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        torch.set_grad_enabled(True)
        torch.set_num_threads(THREADS)
        torch.use_deterministic_algorithms(False)
        torch.backends.mkldnn.set_flags(mkldnn)


def ours(bench: Bench) -> dict[str, Run]:
    """This project on Keras' torch backend, recorded and by ``torch.compile``; and that backend's plain gradient."""
    x = bench.net.inputs()
    runs: dict[str, Run] = {"Keras gradient": relevance.gradient(bench.model, x)}
    for method in relevance.applicable(bench.net):
        runs[f"ours {method}"] = relevance.ours(bench.model, x, method)
    bench.model.compile(jit_compile=True)
    for method in COMPILED:
        if method in relevance.applicable(bench.net):
            runs[f"ours {method}, torch.compile"] = relevance.ours(bench.model, x, method)
    return runs


TOOLS: dict[str, tuple[str | None, Callable[[Bench], dict[str, Run]]]] = {
    "ours": (None, ours),
    "zennit": ("zennit", zennit),
    "captum": ("captum", captum),
    "lxt": ("lxt", lxt),
    "dl-backtrace": ("dl_backtrace", dl_backtrace),
}
