"""The steps a recipe can name. Adding one: its file, its class in `STEPS`, its test."""

from qcompile.steps.channels_last import ChannelsLast
from qcompile.steps.compile import Compile
from qcompile.steps.fuse_qkv import FuseQkv
from qcompile.steps.quantize import Quantize
from qcompile.steps.step import Phase, Step, Target, Workshop

STEPS: tuple[type[Step], ...] = (FuseQkv, ChannelsLast, Quantize, Compile)

__all__ = ["STEPS", "Phase", "Step", "Target", "Workshop"]
