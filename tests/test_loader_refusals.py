"""What `load` refuses although every digest is right: such an artifact has an author."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import qcompile
from qcompile.artifact.read import read_artifact
from qcompile.artifact.write import write_manifest
from qcompile.errors import ArtifactError, ModelError

GOLDEN = ROOT / "serialization" / "golden" / "pipeline-int8_dynamic"


@pytest.mark.parametrize("owner", ["nope", "scheduler", "save_pretrained", "__class__"])
@pytest.mark.parametrize("step", ["compile: {component: OWNER, mode: jit}", "channels_last: {component: OWNER}"])
def test_a_step_on_what_is_no_model(tmp_path: Path, owner: str, step: str) -> None:
    artifact = shutil.copytree(GOLDEN, tmp_path / "artifact")
    manifest = read_artifact(artifact).manifest
    data = yaml.safe_load((artifact / "recipe.yaml").read_text(encoding="utf-8"))
    steps = [*data["steps"], yaml.safe_load(step.replace("OWNER", owner))]
    steps.sort(key=lambda step: "compile" in step or ("quantize" in step) / 2)
    (artifact / "recipe.yaml").write_text(yaml.safe_dump(data | {"steps": steps}), encoding="utf-8")
    write_manifest(artifact, manifest)
    with pytest.raises(
        ArtifactError, match=rf"recipe\.yaml: steps\.\d\.\w+\.component: .* no model '{owner}'"
    ) as caught:
        qcompile.load(artifact, device="cpu")
    assert caught.value.fault == "bad_recipe"
    if owner != "scheduler":
        return
    record = manifest.components["vae"].model_copy(
        update={"class_name": "FlowMatchEulerDiscreteScheduler", "stored": "diffusers"}
    )
    write_manifest(artifact, manifest.model_copy(update={"components": manifest.components | {owner: record}}))
    with pytest.raises((ArtifactError, ModelError), match="scheduler is .*Scheduler in this FluxPipeline") as caught:
        qcompile.load(artifact, device="cpu")


def of_class(folder: Path, class_name: str) -> Path:
    """A copy of an artifact that says its pipeline is of this class."""
    shutil.copytree(GOLDEN, folder)
    manifest = read_artifact(folder).manifest
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": class_name}
    (folder / "model_index.json").write_text(json.dumps(index))
    model = manifest.model.model_copy(update={"class_name": class_name})
    write_manifest(folder, manifest.model_copy(update={"model": model}))
    return folder


@pytest.mark.parametrize("name", ["ModularPipeline", "UNet2DConditionModel", "AutoPipelineForText2Image"])
def test_a_class_that_is_no_pipeline(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match=f"artifact: {name} is no pipeline of diffusers") as caught:
        qcompile.load(of_class(tmp_path / "artifact", name), device="cpu")
    assert caught.value.fault == "foreign_class"


def test_a_model_card_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers loads the prior that the card of a combined Kandinsky pipeline names; nobody has a digest of either."""
    import diffusers

    opened = []
    folder = of_class(tmp_path / "artifact", "KandinskyCombinedPipeline")
    (folder / "README.md").write_text("---\nprior:\n- someone/else\n---\n")
    with monkeypatch.context() as patched:
        patched.setattr(diffusers.DiffusionPipeline, "from_pretrained", opened.append)
        with pytest.raises(
            ArtifactError, match=r"README\.md: Kandinsky.* would load the pipeline that this file names"
        ):
            qcompile.load(folder, device="cpu")
    assert opened == []
    (folder / "README.md").unlink()
    with pytest.raises(ModelError, match="expected"):  # it is no such pipeline
        qcompile.load(folder, device="cpu")


def test_a_component_that_is_not_stored_as_the_manifest_says(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "artifact")
    manifest = read_artifact(folder).manifest
    record = manifest.components["transformer"].model_copy(update={"stored": "diffusers"})
    write_manifest(folder, manifest.model_copy(update={"components": manifest.components | {"transformer": record}}))
    with pytest.raises(ArtifactError, match="artifact/transformer: tensors of its model are not there") as caught:
        qcompile.load(folder, device="cpu")
    assert caught.value.fault == "bad_tensors"


def test_a_pipeline_that_says_it_is_a_bare_model(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "artifact")
    manifest = read_artifact(folder).manifest
    model = manifest.model.model_copy(update={"kind": "model"})
    write_manifest(folder, manifest.model_copy(update={"model": model}))
    with pytest.raises(ModelError, match="artifact/transformer: no FluxPipeline can be built from it"):
        qcompile.load(folder, device="cpu")
