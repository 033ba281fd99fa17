"""Our own layers: what a rewrite puts in the place of a model's."""

import torch
from torch import nn
from torch.nn import functional


class Conv1x1AsLinear(nn.Linear):
    """A 1x1 convolution computed as a matrix product over channels, so that linear kernels and schemes apply to it.

    Takes and gives [B, C, H, W]. With channels_last inputs the permutations are views, and the output is channels_last.
    """

    @classmethod
    def from_convolution(cls, convolution: nn.Conv2d) -> "Conv1x1AsLinear":
        """The same function as `convolution`, with its weights.

        Raises:
            ValueError: it is more than a product over channels.
        """
        reason = why_not_linear(convolution)
        if reason:
            raise ValueError(f"this convolution is no linear: {reason}")
        with torch.device("meta"):
            layer = cls(convolution.in_channels, convolution.out_channels, bias=convolution.bias is not None)
        weight = convolution.weight.detach().reshape(convolution.out_channels, convolution.in_channels)
        layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        if convolution.bias is not None:
            layer.bias = nn.Parameter(convolution.bias.detach(), requires_grad=False)
        return layer.train(convolution.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        return functional.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def why_not_linear(convolution: nn.Conv2d) -> str | None:
    """Why a convolution is not a product over channels, None where it is."""
    for name, needed in (("kernel_size", (1, 1)), ("stride", (1, 1)), ("padding", (0, 0)), ("groups", 1)):
        found = getattr(convolution, name)
        if found != needed:
            return f"{name} is {found}, not {needed}"
    return None
