"""What a plan says of layers that quantization makes slower. No GPU is needed to be told of one."""

from collections.abc import Callable

import pytest

from qcompile.change import Change
from qcompile.hints import hints
from qcompile.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
SEARCHED = {"compile": {"component": "transformer", "mode": "aot", "tuning": "max-autotune-no-cudagraphs"}}


@pytest.mark.parametrize(
    ("scheme", "capability", "compiled", "hinted"),
    [
        ("int8_dynamic", (9, 0), {"mode": "aot"}, True),
        ("int8_dynamic", (9, 0), {"mode": "jit", "tuning": "max-autotune-no-cudagraphs"}, False),
        ("int8_dynamic", (8, 9), {"mode": "aot"}, False),
        ("int8_dynamic", None, {"mode": "aot"}, False),
        ("float8_weight_only", (9, 0), {"mode": "aot"}, False),
    ],
)
def test_a_scheme_that_needs_a_search_for_kernels_is_hinted_at(
    scheme: str, capability: tuple[int, int] | None, compiled: dict[str, str], hinted: bool, make_recipe: MakeRecipe
) -> None:
    steps = [
        {"quantize": {"component": "transformer", "scheme": scheme}},
        {"compile": {"component": "transformer", "scope": "blocks", **compiled}},
    ]
    found = hints(make_recipe(steps=steps), (), capability)
    assert len(found) == hinted
    if hinted:
        assert "steps.0.quantize.scheme: on a GPU of compute capability 9.0 int8_dynamic is slower" in found[0]
        assert "Set steps.1.compile.tuning to max-autotune-no-cudagraphs" in found[0]
    searched = [{"inductor": {"component": "transformer", "options": {"max_autotune": True}}}]
    assert hints(make_recipe(steps=[steps[0], *searched, steps[1]]), (), capability) == ()


def quantized(*features: tuple[int, int] | None, step: int = 0, action: str | None = "int8_dynamic") -> list[Change]:
    return [
        Change(
            step=step, kind="quantize", component="transformer", module=f"layers.{index}", action=action, features=pair
        )
        for index, pair in enumerate(features)
    ]


def test_small_layers_that_are_slower_with_any_kernel_are_counted(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(steps=[{"quantize": {"component": "transformer", "scheme": "int8_dynamic"}}, SEARCHED])
    changes = [
        *quantized((1280, 10240), (5120, 1280), (3072, 3072), (1281, 1281)),
        *quantized((64, 64), action=None),
        *quantized((64, 64), step=1),
    ]
    (found,) = hints(recipe, changes, (9, 0))
    assert found.startswith(
        "steps.0.quantize.scheme: 2 of its 4 layers have 1280 or fewer in or out features. On a GPU"
    )
    assert "layers.where.min_features: 1281" in found
    assert "scheme: autoquant" in found
    assert hints(recipe, quantized((3072, 3072)), (9, 0)) == ()
    # A selector that takes no layer is an error.
    (found,) = hints(recipe, quantized((1280, 1280), (640, 640)), (9, 0))
    assert "2 of its 2 layers" in found
    assert "Take the step out, or set scheme: autoquant" in found


@pytest.mark.parametrize(
    ("scheme", "capability"), [("int8_dynamic", (8, 0)), ("float8_row", (9, 0)), ("int8_dynamic", None)]
)
def test_nothing_is_said_of_what_was_not_measured(
    scheme: str, capability: tuple[int, int] | None, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(steps=[{"quantize": {"component": "transformer", "scheme": scheme}}, SEARCHED])
    assert hints(recipe, quantized((640, 640)), capability) == ()
