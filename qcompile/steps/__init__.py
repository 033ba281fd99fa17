"""The steps a recipe can name. Adding one: its file, its class in `STEPS`, its test."""

from qcompile.steps.attention import Attention
from qcompile.steps.channels_last import ChannelsLast
from qcompile.steps.compile import Compile
from qcompile.steps.fuse_lora import FuseLora
from qcompile.steps.fuse_qkv import FuseQkv
from qcompile.steps.inductor import Inductor
from qcompile.steps.quantize import Quantize
from qcompile.steps.step import ComponentStep, Phase, PipelineStep, Step, Target, Workshop
from qcompile.steps.swap_conv1x1 import SwapConv1x1
from qcompile.steps.tune_scheduler import TuneScheduler

STEPS: tuple[type[Step], ...] = (
    FuseLora,
    FuseQkv,
    ChannelsLast,
    SwapConv1x1,
    Attention,
    TuneScheduler,
    Quantize,
    Inductor,
    Compile,
)

__all__ = ["STEPS", "ComponentStep", "Phase", "PipelineStep", "Step", "Target", "Workshop"]
