import pytest
import torch
import yaml
from torch import nn
from torch._inductor.graph import GraphLowering

import qcompile
from qcompile import recipe as recipes
from qcompile.aot.options import BASE, options_of
from qcompile.errors import PlanError, RecipeError
from qcompile.steps.compile import Compile
from qcompile.steps.inductor import Inductor
from steps.test_steps import target

TEXT = """
name: test
version: 1
model: {id: "builtin:flux-mini"}
steps:
  - inductor: {component: unet, options: {conv_1x1_as_mm: true, epilogue_fusion: false}}
  - inductor: {component: vae, options: {max_autotune: true}}
  - inductor: {component: unet, options: {epilogue_fusion: true}}
  - compile: {component: unet, mode: jit}
"""


def test_options_reach_the_compile_steps_of_their_component_that_follow() -> None:
    recipe = recipes.parse(TEXT)
    assert recipe.inductor_options(3) == {"conv_1x1_as_mm": True, "epilogue_fusion": True}
    assert recipe.inductor_options(2) == {"conv_1x1_as_mm": True, "epilogue_fusion": False}
    assert recipe.inductor_options(0) == {}


def test_a_recipe_wins_over_a_mode_and_a_mode_over_the_base() -> None:
    found = options_of("max-autotune-no-cudagraphs", {"coordinate_descent_tuning": False})
    assert found == {**BASE, "max_autotune": True, "coordinate_descent_tuning": False}
    assert options_of("default", {}) == BASE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"conv_1x1_as_mmm": True},
            r"steps.1.inductor.options.conv_1x1_as_mmm: torch .* did you mean 'conv_1x1_as_mm'",
        ),
        ({"max_autotune_gemm_backends": True}, "True is a bool; torch has '.*', a str, there"),
        ({"cpp.cxx": 1}, "1 is a int; torch has .*, a tuple, there"),
        ({"epilogue_fusion": 1}, "1 is a int; torch has True, a bool, there"),
        ({"freezing": True}, "qcompile sets this option itself"),
    ],
)
def test_what_torch_does_not_know_is_refused(options: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Inductor(component="model", options=options).changes(target(nn.Linear(2, 2), compiled=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # What torch puts into a command line, starts, or writes to.
        ({"cpp.march": "native -wrapper /bin/sh,-c,touch${IFS}found"}, r"cpp.march is 'native -wrap.*words can be set"),
        ({"cpp.enable_floating_point_contract_flag": "off -wrapper x"}, "words can be set for max_autotune_gemm"),
        ({"cpp.cxx": "./found"}, "words can be set"),
        ({"cuda.cutlass_dir": "/tmp"}, "of those with a dot, cpp or triton can be set"),
        ({"trace.enabled": True}, "of those with a dot, cpp or triton can be set"),
        ({"aot_inductor.package": True}, "of those with a dot, cpp or triton can be set"),
        ({"autotune_remote_cache": True}, "autotune_remote_cache would ask other machines for code"),
        ({"max_autotune": "yes"}, "max_autotune is 'yes'; words can be set"),
        ({"max_autotune_gemm_backends": "TRITON,$(sh)"}, "its words are ATEN, TRITON, CUTLASS, CK or CPP"),
    ],
)
def test_a_recipe_names_no_program_and_no_place(options: dict, message: str) -> None:
    data = recipes.parse(TEXT).data
    data["steps"][1]["inductor"]["options"] = options
    with pytest.raises(RecipeError, match=rf"steps.1.inductor.options: .*{message}"):
        recipes.parse(yaml.safe_dump(data))


def test_words_that_torch_lists_can_be_set() -> None:
    step = Inductor(component="model", options={"max_autotune_gemm_backends": "TRITON, ATEN", "cpp.simdlen": 256})
    (change,) = step.changes(target(nn.Linear(2, 2), compiled=True))
    assert change.action == "max_autotune_gemm_backends=TRITON, ATEN, cpp.simdlen=256"


def test_what_this_torch_does_not_know_is_refused_at_load_too() -> None:
    step = Compile(component="model", mode="jit", scope="full")
    with pytest.raises(PlanError, match=r"compile of model: inductor.options.nosuch: torch .* has no such"):
        step.prepare(nn.Linear(2, 2), {"nosuch": True})


def test_options_that_nothing_would_use_are_refused() -> None:
    with pytest.raises(PlanError, match="no compile step of model follows"):
        Inductor(component="model", options={"max_autotune": True}).changes(target(nn.Linear(2, 2)))
    with pytest.raises(RecipeError, match="options"):
        recipes.parse(TEXT.replace("{max_autotune: true}", "{}"))


class Doubled(nn.Linear):
    """Dynamo leaves the frames of torch's own modules alone."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows) * 2


@pytest.mark.slow
def test_they_are_in_the_plan_and_reach_jit_code_alone(make_recipe) -> None:
    before = torch._inductor.config.get_config_copy()
    steps = [
        {"inductor": {"component": "transformer", "options": {"conv_1x1_as_mm": True}}},
        {"compile": {"component": "transformer", "mode": "jit", "scope": "blocks"}},
    ]
    plan = qcompile.plan(make_recipe(steps=steps))
    assert plan.changes[0].action == "conv_1x1_as_mm=True"
    layer, inside = Doubled(4, 4), []
    Compile(component="model", mode="jit", scope="full").prepare(layer, {"conv_1x1_as_mm": True})
    run = GraphLowering.run

    def watched(*args):
        inside.append(torch._inductor.config.conv_1x1_as_mm)
        return run(*args)

    uncached = torch._inductor.config.patch(force_disable_caches=True)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), uncached:
        patch.setattr(GraphLowering, "run", watched)
        layer(torch.randn(2, 4))
    assert inside == [True]
    assert torch._inductor.config.get_config_copy() == before
