from qcompile.change import Change
from qcompile.report.content import gather
from qcompile.report.layers import MAX_BLOCKS, block_lists, bytes_by_scheme, layer_map, other_actions
from report.conftest import ARTIFACT, GOLDEN


def change(module: str, action: str | None, step: int = 0, **more: object) -> Change:
    values = {"kind": "quantize", "component": "transformer", "rows": (64,), "features": (16, 16)}
    reason = None if action else "not included"
    return Change(
        step=step, module=module, action=action, reason=reason, bytes_before=10, bytes_after=6, **values | more
    )


def test_layers_that_differ_in_their_index_are_one_row() -> None:
    names = [f"blocks.{index}.{role}" for index in range(3) for role in ("to_q", "ff.net.0.proj")]
    first, second = layer_map([change(name, "int8_dynamic") for name in names])
    assert (first.layers, first.count, first.scheme) == (("blocks.{0..2}.to_q",), 3, "int8_dynamic")
    assert second.layers == ("blocks.{0..2}.ff.net.0.proj",)
    assert (first.bytes_before, first.bytes_after) == (30, 18)


def test_whatever_else_differs_is_another_row() -> None:
    changes = [
        change("blocks.0.to_q", "int8_dynamic"),
        change("blocks.1.to_q", "float8_row"),
        change("blocks.2.to_q", None),
        change("blocks.3.to_q", "int8_dynamic", features=(16, 32)),
        change("blocks.4.to_q", "int8_dynamic", rows=(1,)),
        change("blocks.5.to_q", "int8_dynamic", component="other"),
        change("blocks.6.to_q", "int8_dynamic"),
    ]
    found = layer_map(changes)
    assert found[0].layers == ("blocks.{0,6}.to_q",)
    assert len(found) == 6


def test_the_last_word_counts_where_several_steps_look_at_a_layer() -> None:
    changes = [
        change("a", None, 1),
        change("b", "int8_dynamic", 1),
        change("a", "quanto_int8", 2),
        change("b", None, 2),
    ]
    found = {group.layers[0]: (group.scheme, group.reason) for group in layer_map(changes)}
    assert found == {"a": ("quanto_int8", ""), "b": ("int8_dynamic", "")}


def test_every_layer_of_an_artifact_is_in_the_map_once() -> None:
    for folder in (ARTIFACT, GOLDEN / "model-own_classes"):
        changes = gather(folder).manifest.changes
        layers = {(item.component, item.module) for item in changes if item.kind == "quantize"}
        groups = layer_map(changes)
        assert sum(group.count for group in groups) == len(layers)
        assert sum(count for count, _, _ in bytes_by_scheme(groups).values()) == len(layers)
        assert all(bool(group.scheme) != bool(group.reason) for group in groups)


def test_other_steps_say_what_they_did() -> None:
    found = other_actions(gather(ARTIFACT).manifest.changes)
    assert [(item.kind, item.count) for item in found] == [("fuse_qkv", 3), ("channels_last", 26)]
    assert "single_transformer_blocks.{0..1}.attn" in found[0].layers


def lists_of(changes: list[Change]) -> dict[str, object]:
    return {item.name: item for item in block_lists(layer_map(changes), changes)}


def test_blocks_are_a_grid_of_roles_by_index() -> None:
    changes = [
        change("blocks.0.to_q", "int8_dynamic"),
        change("blocks.0.ff.net.2", None),
        change("blocks.2.to_q", "float8_row"),
        change("down.0.attentions.1.to_q", "int8_dynamic"),
        change("down.1.attentions.0.to_q", "int8_dynamic"),
        change("proj_out", "int8_dynamic"),
        change("single.0.to_q", "int8_dynamic"),
        change("plain.0.to_q", None),
        change("plain.1.to_q", None),
        change("other.0.to_q", None, component="vae"),
        change("other.1.to_q", None, component="vae"),
    ]
    found = lists_of(changes)
    # One block is no list, and one without any quantized layer is nothing to look at.
    assert found.keys() == {"blocks", "down"}
    blocks = found["blocks"]
    assert (blocks.roles, blocks.count) == (("to_q", "ff.net.2"), 3)
    assert blocks.schemes == {("to_q", 0): "int8_dynamic", ("ff.net.2", 0): None, ("to_q", 2): "float8_row"}
    assert found["down"].roles == ("attentions.1.to_q", "attentions.0.to_q")


def test_a_manifest_that_names_a_huge_index_draws_no_huge_picture() -> None:
    for index in (MAX_BLOCKS, 99_999, 10**30):
        assert lists_of([change("a.0.q", "int8_dynamic"), change(f"a.{index}.q", "int8_dynamic")]) == {}
