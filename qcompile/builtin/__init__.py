# SPDX-License-Identifier: Apache-2.0
"""Models that live inside the package, so that qcompile can be tried without a network. Importing this loads no
torch."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

BUILTINS: tuple[str, ...] = ("flux-mini",)
"""Names accepted after `builtin:`."""

DEFAULT_CALL: Mapping[str, Mapping[str, int | float]] = MappingProxyType(
    {
        "flux-mini": MappingProxyType(
            {
                "height": 128,
                "width": 128,
                "num_inference_steps": 16,
                "guidance_scale": 3.5,
                "max_sequence_length": 32,
            }
        )
    }
)
"""What each builtin model is called with: diffusers' own defaults (512x512, 512 text tokens) are not what it
learned."""


def builtin_folder(name: str) -> Path:
    """Folder of a builtin model, in diffusers format.

    Raises:
        KeyError: no builtin model has this name; the message lists those that exist.
    """
    if name not in BUILTINS:
        raise KeyError(f"no builtin model is called {name!r}; there is: {', '.join(BUILTINS)}")
    return Path(__file__).parent / name.replace("-", "_")
