"""Where files of others are loaded by libraries that could run code of theirs: only here and so; SECURITY.md says it, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house import PACKAGES, ROOT, modules

RUNS_CODE = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "torch.jit.load",
    "torch.export.load",
    "cloudpickle.load",
    "exec",
    "eval",
}
DOWNLOADS = {
    "snapshot_download",
    "hf_hub_download",
    "load_state_dict_from_url",
    "download_url_to_file",
    "urlretrieve",
    "load_url",
}
OF_A_FOLDER = {  # who calls `from_pretrained`, always on a folder of this machine
    "cfx.classifiers.pretrained_folder:load_pretrained",
    "cfx.classifiers.pretrained_folder:_seen",
    "cfx.diffusion.pipeline_parts:_loaded",
    "cfx.diffusion.pipeline_parts:read_tokenizer",
    "cfx.diffusion.pretrained:read_unet",
    "cfx.diffusion.text_to_image:prompted_unet",
    "cfx.diffusion.text_to_image:word_tokenizer",
    "tasks.advice.captions:_folder",
}
OF_A_HUB = {  # and who also takes a hub id, without a pinned revision
    "cfx.attributes.words:load_two_towers",
    "cfx.diffusion.latent:load_latent",
}

OF_A_COMMIT = {  # who downloads: configs, vocabularies and safetensors of a hub id, at one commit
    "cfx.diffusion.hub:_downloaded",
    "cfx.diffusion.hub:_cached",
}


def parts() -> Iterator[tuple[str, ast.AST]]:
    """Every part of the product's source, by package.module:function."""
    for name, path in modules(ROOT, *PACKAGES).items():
        for top in ast.parse(path.read_text(encoding="utf-8")).body:
            place = f"{name}:{getattr(top, 'name', '')}"
            yield from ((place, node) for node in ast.walk(top) if isinstance(node, ast.Call | ast.keyword | ast.Dict))


PARTS = list(parts())
CALLS = [(place, ast.unparse(node.func), node) for place, node in PARTS if isinstance(node, ast.Call)]


def named(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def test_what_may_run_code_of_a_file_is_loaded_at_one_door() -> None:
    found = {(place, what) for place, what, _ in CALLS if what in RUNS_CODE}
    assert found == {
        ("cfx.weights_file:read_program", "torch.jit.load"),  # both with `allow_pickle` alone
        ("cfx.weights_file:read_program", "torch.export.load"),
        ("cfx.weights_file:_unpickled", "pickle.load"),
        ("cfx.user_code:_run_again_if_changed", "exec"),  # a module that the configuration names
    }
    torch_load = [(place, named(call).get("weights_only")) for place, what, call in CALLS if what == "torch.load"]
    assert len(torch_load) > 3 and all(value in ("True", "False") for _, value in torch_load)
    assert [place for place, value in torch_load if value == "False"] == ["cfx.weights_file:_unpickled"]


def test_pretrained_networks_are_of_a_folder_and_bring_no_code() -> None:
    assert {place for place, what, _ in CALLS if what.endswith(".from_pretrained")} == OF_A_FOLDER | OF_A_HUB
    downloads = {place for place, what, _ in CALLS if what.rpartition(".")[2] in DOWNLOADS or what.startswith("torch.hub.")}
    assert downloads == OF_A_COMMIT
    local = [
        named(call).get("local_files_only") for place, _, call in CALLS if place in OF_A_FOLDER and "pipeline_parts" in place
    ]
    assert local.count("True") == 2
    one_file = [named(call) for _, what, call in CALLS if what.endswith(".from_single_file")]
    assert [arguments["local_files_only"] for arguments in one_file] == ["True"]
    made = [named(call) for _, what, call in CALLS if what == "timm.create_model"]
    assert made and all(arguments["pretrained"] == "False" for arguments in made)
    trusted = [node.value for _, node in PARTS if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"]
    pairs = [pair for _, node in PARTS if isinstance(node, ast.Dict) for pair in zip(node.keys, node.values, strict=True)]
    trusted += [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "trust_remote_code"]
    assert len(trusted) == 3 and all(isinstance(value, ast.Constant) and value.value is False for value in trusted)
