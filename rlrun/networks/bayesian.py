"""Networks whose weights are independent Gaussians (Blundell et al. 2015, "Bayes by backprop", arXiv:1505.05424).

A weight is N(mu, sigma^2) with sigma = softplus(rho), which is positive whatever rho is. A row of inputs passes through
each layer once, so its outputs before the activation are independent Gaussians too, and these are drawn in place of the
weights (Kingma, Salimans & Welling 2015, "local reparametrisation", arXiv:1506.02557): the same distribution for each
row, a draw of its own for every row, and less noise in the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class BayesianLinear(nn.Module):
    """A linear layer with Gaussian weights and biases.

    Args:
        mean: the layer of means; its values are kept.
        std: standard deviation of every weight and bias at the start.
    """

    def __init__(self, mean: nn.Linear, std: float):
        super().__init__()
        rho = math.log(math.expm1(std))  # softplus(rho) = std
        self.mean = mean
        self.weight_rho = nn.Parameter(torch.full_like(mean.weight, rho))
        self.bias_rho = nn.Parameter(torch.full_like(mean.bias, rho))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Outputs [B, out] with weights drawn anew for every row, from x [B, in] and normal noise [B, out]."""
        weight_std, bias_std = functional.softplus(self.weight_rho), functional.softplus(self.bias_rho)
        variance = functional.linear(x.square(), weight_std.square(), bias_std.square())
        return self.mean(x) + variance.sqrt() * noise


class BayesianNetwork(nn.Module):
    """A chain of layers with Gaussian weights in all that are linear.

    `forward(obs [B, *obs], noise [B, units]) -> (output [B, *], KL [])` takes normal noise, one number per output of a
    linear layer.

    Args:
        layers: their weights are the means to begin with, and stay the means.
        std: standard deviation of every weight at the start.
        prior_std: that of the prior, whose mean is 0.
    """

    def __init__(self, layers: Sequence[nn.Module], std: float, prior_std: float):
        super().__init__()
        self.prior_std = prior_std
        self.layers = nn.ModuleList(BayesianLinear(x, std) if isinstance(x, nn.Linear) else x for x in layers)
        self.widths = [x.out_features for x in layers if isinstance(x, nn.Linear)]
        self.units = sum(self.widths)

    def forward(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.sample(obs, noise), self.kl()

    def sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Outputs [B, *] with weights drawn anew for every row."""
        noises = iter(noise.split(self.widths, dim=-1))
        for layer in self.layers:
            obs = layer(obs, next(noises)) if isinstance(layer, BayesianLinear) else layer(obs)
        return obs

    def kl(self) -> Tensor:
        """KL(q || p) [] of all weights and biases."""
        linear = [layer for layer in self.layers if isinstance(layer, BayesianLinear)]
        mean = torch.cat([p.flatten() for layer in linear for p in (layer.mean.weight, layer.mean.bias)])
        rho = torch.cat([p.flatten() for layer in linear for p in (layer.weight_rho, layer.bias_rho)])
        return gaussian_kl(mean, functional.softplus(rho), self.prior_std)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise [*shape, units] for as many rows."""
        return torch.randn((*shape, self.units), generator=generator, device=generator.device)


def gaussian_kl(mean: Tensor, std: Tensor, prior_std: float) -> Tensor:
    """KL(N(mean, std^2) || N(0, prior_std^2)) [], summed over independent entries."""
    ratio = (std / prior_std).square()
    return 0.5 * (ratio + (mean / prior_std).square() - 1 - ratio.log()).sum()
