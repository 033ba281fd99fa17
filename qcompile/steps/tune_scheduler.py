"""`tune_scheduler`: no denoising step waits for the GPU because of its scheduler."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.steps.step import NOTHING, Phase, PipelineStep, Target, Workshop


class TuneScheduler(PipelineStep):
    """Keep the scheduler's noise levels on the CPU and tell it where it begins, so that no step waits for the GPU."""

    kind: ClassVar[str] = "tune_scheduler"
    phase: ClassVar[Phase] = Phase.REWRITE

    def changes(self, target: Target) -> tuple[Change, ...]:
        scheduler = getattr(target.pipeline, "scheduler", None)
        if not hasattr(scheduler, "sigmas") or not hasattr(scheduler, "set_begin_index"):
            raise PlanError(
                f"{target.place(self.kind)}: {type(scheduler).__name__} keeps no table of noise levels that it walks "
                "through, so there is nothing to tune. Take the step out."
            )
        action = f"{type(scheduler).__name__}: noise levels on the CPU"
        return (Change(step=target.index, kind=self.kind, component=target.component, module="", action=action),)

    def apply(self, module: Any, changes: tuple[Change, ...], workshop: Workshop) -> None:
        self.prepare(module)

    def prepare(self, module: Any, inductor: Mapping[str, Any] = NOTHING) -> None:
        scheduler = module.scheduler
        original = scheduler.set_timesteps

        @functools.wraps(original)  # diffusers looks at the signature
        def set_timesteps(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            # A step reads one number of this table; from the GPU it would wait for everything before it.
            scheduler.sigmas = scheduler.sigmas.to("cpu")
            if scheduler.begin_index is None:
                # Else the first step looks for its timestep among all of them, on the GPU.
                scheduler.set_begin_index(0)
            return result

        scheduler.set_timesteps = set_timesteps
