from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import demo_data
from diffusers import AutoencoderKL
from torch import nn

import qcompile
from qcompile.aot import build
from qcompile.errors import CallError, PlanError
from qcompile.progress import Silent
from qcompile.steps import Workshop
from qcompile.steps.compile import Compile
from steps.test_steps import target


def tiny_vae() -> nn.Module:
    return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, layers_per_block=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "aot", "tuning": "max-autotune", "scope": "full"}, "Use max-autotune-no-cudagraphs or default"),
        ({"mode": "aot", "tuning": "reduce-overhead"}, "packages compiled ahead of time can't hold"),
        ({"mode": "jit", "tuning": "reduce-overhead"}, "overwrites the outputs of each other's graphs"),
        (
            {"mode": "jit", "tuning": "max-autotune", "scope": "blocks"},
            "Use max-autotune-no-cudagraphs, or scope: full",
        ),
        ({"mode": "aot", "dynamic": True}, "Declare every size under shapes"),
        ({"mode": "aot", "method": "decode"}, "compiled as a whole; use scope: full"),
        ({"mode": "aot", "method": "decode", "scope": "full"}, "Sequential has no decoder"),
    ],
)
def test_combinations_that_break_are_refused_with_the_alternative(options: dict, message: str) -> None:
    with pytest.raises(PlanError, match=rf"steps.1.compile.*{message}"):
        Compile(component="model", **options).changes(target(nn.Sequential(nn.Linear(2, 2))))


def test_parts_of_an_autoencoder() -> None:
    decode = Compile(component="vae", mode="aot", scope="full", method="decode")
    (change,) = decode.changes(target(tiny_vae(), component="vae"))
    assert (change.module, change.action) == ("decoder", "aot Decoder")
    encode = Compile(component="vae", mode="aot", scope="full", method="encode")
    (other,) = encode.changes(target(tiny_vae(), [change], component="vae"))
    assert other.module == "encoder"
    with pytest.raises(PlanError, match="vae is compiled by an earlier step already"):
        decode.changes(target(tiny_vae(), [change], component="vae"))


@pytest.mark.parametrize("tuning", ["default", "max-autotune-no-cudagraphs"])
def test_jit_gets_the_options(tuning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: seen.append(options))
    step = Compile(component="model", mode="jit", scope="full", tuning=tuning, dynamic=True)
    step.prepare(nn.Linear(2, 2), {"epilogue_fusion": False})
    (options,) = seen
    assert options["dynamic"] is True
    assert options["options"]["emulate_precision_casts"] is True
    assert options["options"]["epilogue_fusion"] is False
    assert ("max_autotune" in options["options"]) == (tuning != "default")


@pytest.mark.parametrize("method", [None, "decode"])
def test_the_denoiser_is_out_of_the_way_while_another_component_is_compiled(
    method: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log: list[str] = []

    @contextmanager
    def alone() -> Iterator[None]:
        log.append("leaves")
        yield
        log.append("comes back")

    def part_calls(component: str, part: str) -> dict:
        log.append("the pipeline runs")  # and needs its denoiser
        return {}

    monkeypatch.setattr(build, "build_packages", lambda *_: log.append("builds") or [])
    workshop = Workshop({}, tmp_path, Silent(), 0.02, part_calls=part_calls, alone=alone)
    Compile(component="vae", mode="aot", scope="full", method=method).apply(tiny_vae(), (), workshop)
    assert log == (["the pipeline runs", "leaves", "builds", "comes back"] if method else ["builds"])


@pytest.mark.long
def test_a_decoder_ahead_of_time(make_recipe, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    steps = [
        {"swap_conv1x1": {"component": "vae"}},
        {"tune_scheduler": {}},
        {"inductor": {"component": "vae", "options": {"epilogue_fusion": False}}},
        {"compile": {"component": "vae", "mode": "aot", "scope": "full", "method": "decode"}},
    ]
    before = torch._inductor.config.get_config_copy()
    artifact = qcompile.apply(make_recipe(steps=steps), out=tmp_path / "vae")
    assert torch._inductor.config.get_config_copy() == before
    (package,) = artifact.manifest.packages
    assert (package.component, package.layers, package.block) == ("vae", ("decoder",), "Decoder")
    assert package.inductor["epilogue_fusion"] is False
    assert package.relative_errors["decoder"] < 0.02
    pipe = qcompile.load(tmp_path / "vae")
    pipe.set_progress_bar_config(disable=True)
    call = {name: value for name, value in demo_data()["call"].items() if name != "prompt"}
    call |= {"generator": torch.Generator().manual_seed(0), "output_type": "np"}
    image = (pipe(demo_data()["call"]["prompt"], **call).images[0] * 255).round().astype(np.uint8)
    assert np.array_equal(image, np.asarray(Image.open(tmp_path / "vae" / "quantized.png")))
    with pytest.raises(CallError, match=r"vae.decoder: no package fits this call"):
        pipe("a red circle on a white background", **(call | {"num_inference_steps": 1, "height": 96, "width": 96}))
