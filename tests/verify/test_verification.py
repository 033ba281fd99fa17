from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import qcompile
from qcompile.artifact.read import read_artifact
from qcompile.errors import ModelError, PlanError, VerifyError
from qcompile.progress import Silent
from qcompile.verify import verification
from qcompile.verify.report import Report
from qcompile.verify.verification import Request, verify

Spoil = Callable[..., Path]
NAN = float("nan")
ALONE = Request(control=False)
"""Compiling the control takes longer than all the rest."""


@pytest.fixture(scope="module")
def report(small_artifact: Path) -> Report:
    return verify(small_artifact, num_prompts=2, request=ALONE)


def test_figures_are_those_that_apply_recorded(report: Report, small_artifact: Path) -> None:
    recorded = read_artifact(small_artifact).manifest.verification
    (arm,) = report.arms
    assert arm.name == "artifact"
    assert arm.measured.quantized_errors == recorded.quantized_relative_error
    assert arm.measured.step_errors == recorded.step_relative_error
    assert (arm.measured.psnr_db[0], arm.measured.ssim[0]) == (recorded.image_psnr_db, recorded.image_ssim)
    assert len(arm.measured.psnr_db) == len(report.tasks) == 2
    assert report.no_control == "left out"
    assert report.holds
    assert report.original_score_percent is not None


def test_bounds_are_the_recipes_unless_others_are_given(report: Report, small_artifact: Path) -> None:
    worst = max(report.arms[0].measured.step_errors)
    for limit, holds in ((worst, True), (worst * 0.999, False)):
        found = verify(small_artifact, num_prompts=1, bounds={"max_step_error": limit}, request=ALONE)
        assert found.holds is holds
        (check,) = [check for check in found.checks if check.bound == "max_step_error"]
        assert (check.value, check.limit) == (worst, limit)
    with pytest.raises(ModelError, match="^--original: there is no folder"):
        verify(small_artifact, original="./nowhere")


def test_a_layer_with_a_scale_that_is_not_finite(spoil: Spoil) -> None:
    name = "transformer_blocks.1.attn.to_qkv._weight_scale"
    broken = spoil("transformer", {name: lambda scale: scale[0].fill_(NAN)})
    with pytest.raises(
        VerifyError,
        match=r"^the artifact's transformer: .* transformer.transformer_blocks.1.attn.to_qkv \(Linear\) .* its weight",
    ):
        verify(broken, num_prompts=1, request=ALONE)


def test_a_decoder_that_paints_black(spoil: Spoil) -> None:
    broken = spoil(
        "vae",
        {
            "decoder.conv_out.weight": lambda weight: weight.zero_(),
            "decoder.conv_out.bias": lambda bias: bias.fill_(-9),
        },
    )
    with pytest.raises(VerifyError, match="^the artifact's image for 'a red circle .* is black, and the original's"):
        verify(broken, num_prompts=1, request=ALONE)


def test_a_bare_model_is_refused(small_artifact: Path, tmp_path: Path, make_recipe: Callable[..., object]) -> None:
    pipeline = qcompile.load(small_artifact)
    steps = [{"quantize": {"component": "vae", "scheme": "int8_weight_only", "layers": {"include": ["**.to_q"]}}}]
    inputs = [{"sample": torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16)}]
    qcompile.apply(make_recipe(steps=steps), model=pipeline.vae, example_inputs=inputs, out=tmp_path / "bare")
    with pytest.raises(ModelError, match="bare AutoencoderKL, which has no trajectory"):
        verify(tmp_path / "bare")


@pytest.mark.parametrize(
    ("bounds", "options", "message"),
    [
        ({"max_compiled_error": 0.1}, {}, "max_compiled_error: the recipe compiles nothing"),
        ({}, {"num_prompts": 100_000}, "--prompts 100000: 99999 held-out captions asked for; only"),
        ({"max_score_loss_points": 0}, {"num_prompts": 0, "request": Request(suggest=True)}, None),
    ],
)
def test_what_can_not_be_measured_is_refused_before_the_model_is_loaded(
    small_artifact: Path, monkeypatch: pytest.MonkeyPatch, bounds: dict, options: dict, message: str | None
) -> None:
    def load(*_: object) -> None:
        raise KeyError("it came to loading")

    monkeypatch.setattr(verification, "original_subject", load)
    # A bound of 0 is a bound.
    with pytest.raises(PlanError if message else KeyError, match=message or "it came to loading"):
        verify(small_artifact, bounds=bounds, **options)


def test_clip_scores_need_a_prompt(small_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = verification.recipes.parse
    monkeypatch.setattr(
        verification.recipes, "parse", lambda text, name: parse(text.replace("prompt: a", "negative_prompt: a"), name)
    )
    with pytest.raises(PlanError, match=r"^--clip .*: the recipe's call has no prompt .* Set call.prompt and apply"):
        verify(small_artifact, request=Request(clip=tmp_path))


@pytest.mark.parametrize("eager_too", [True, False])
def test_a_fault_in_packages_is_looked_for_without_them(monkeypatch: pytest.MonkeyPatch, eager_too: bool) -> None:
    def measure(compiled: bool, *_: object) -> None:
        if compiled or eager_too:
            raise VerifyError("the decoder." if compiled else "the decoder's layer.")

    monkeypatch.setattr(verification, "artifact_subject", lambda *_, compiled: compiled)
    monkeypatch.setattr(verification, "measure", measure)
    opened = SimpleNamespace(manifest=SimpleNamespace(packages=("one",)))
    run = verification._Run(opened, None, None, torch.device("cpu"), Silent(), Request(), None)
    expected = "^the decoder's layer.$" if eager_too else "^the decoder. Without compiled code the fault is gone"
    with pytest.raises(VerifyError, match=expected):
        run.artifact_arm(None, {})


def test_sensitivity_of_what_is_not_quantized(tmp_path: Path) -> None:
    from verify.conftest import make, short

    artifact = make(short(steps=[{"channels_last": {"component": "vae"}}]), tmp_path / "a")
    with pytest.raises(PlanError, match="no layer of its transformer is quantized"):
        verify(artifact, num_prompts=1, request=Request(suggest=True))


@pytest.mark.slow
def test_a_recipe_that_compiles_nothing_has_a_control_too(small_artifact: Path) -> None:
    found = verify(small_artifact, num_prompts=1)
    assert [arm.name for arm in found.arms] == ["control", "artifact"]
    assert found.no_control is None
    control, artifact = (max(arm.measured.step_errors) for arm in found.arms)
    assert 0 < control < artifact


def test_a_recipe_that_compiles_nothing_needs_no_compiler(
    small_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch._dynamo.exc.TorchDynamoException("no C++ compiler found")

    monkeypatch.setattr(verification, "make_control", fail)
    found = verify(small_artifact, num_prompts=1)
    assert [arm.name for arm in found.arms] == ["artifact"]
    assert found.no_control is not None
    assert found.no_control.startswith("the control arm could not be compiled here: no C++ compiler found")


@pytest.mark.slow
def test_packages_beside_their_control(compiled_artifact: Path) -> None:
    found = verify(compiled_artifact, num_prompts=1)
    control, artifact = found.arms
    assert (control.name, artifact.name) == ("control", "artifact")
    assert found.no_control is None
    recorded = read_artifact(compiled_artifact).manifest.verification
    assert artifact.measured.step_errors == pytest.approx(recorded.step_relative_error, rel=0.05)
    assert max(artifact.measured.compiled_errors.values()) < 0.02
    # Compilation rounds otherwise, but by less than quantization does.
    assert 0 < max(control.measured.step_errors) < max(artifact.measured.step_errors)
    assert found.holds
    assert [arm.name for arm in verify(compiled_artifact, num_prompts=1, request=Request(control=False)).arms] == [
        "artifact"
    ]


def test_adapters_are_part_of_the_original(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from verify.conftest import make, short

    generator = torch.Generator().manual_seed(0)
    name, size = "transformer.transformer_blocks.0.attn.to_q", 192
    adapter = {
        f"{name}.lora_A.weight": torch.randn(4, size, generator=generator),
        f"{name}.lora_B.weight": torch.randn(size, 4, generator=generator),
    }
    file = tmp_path / "lora.safetensors"
    save_file(adapter, file)
    artifact = make(short(steps=[{"fuse_lora": {"path": str(file)}}]), tmp_path / "a")
    (arm,) = verify(artifact, num_prompts=1, request=Request(control=False)).arms
    assert set(arm.measured.step_errors) == {0.0}
    file.unlink()
    with pytest.raises(ModelError, match=r"steps.0.fuse_lora.path: no LoRA can be read from .*lora\.safetensors"):
        verify(artifact, num_prompts=1)
