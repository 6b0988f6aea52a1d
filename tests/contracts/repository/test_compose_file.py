"""docker-compose.yml describes the same mesh as `make run`, and contains no secret."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from gateway.settings import Settings
from mycelium.runner.process_plan import DRAIN_SECONDS, SERVICES
from mycelium.state import ROOT
from tests.contracts.repository.compose_file import COMPOSE, ours, seconds, services, variables

SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY")
LONG_RUNNING = (*SERVICES, "gateway")


def environment_of(service: str) -> dict[str, Any]:
    environment: dict[str, Any] = ours()[service]["environment"]
    return environment


def test_compose_file_matches_the_compose_specification():
    command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    checked = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_file_has_every_process_of_the_mesh():
    assert set(ours()) == {*LONG_RUNNING, "migrate", "seed"}


@pytest.mark.parametrize("service", SERVICES)
def test_service_gets_the_required_settings_and_no_unknown_ones(service):
    config = (ROOT / "config.yml").read_text()
    known = set(re.findall(r"\$\{(\w+)", config))
    sources = [*ROOT.glob("nameko_mesh/**/*.py"), *ROOT.glob(f"services/{service}/*.py")]
    required = {
        name for source in sources for name in re.findall(r'\brequired\("(\w+)"\)', source.read_text())
    }

    given = set(environment_of(service))

    assert required >= {"AMQP_URI", "DATABASE_URL"}
    assert required <= given <= known


def test_gateway_gets_the_required_settings_and_no_unknown_ones():
    required = {name for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= set(environment_of("gateway")) <= set(Settings.model_fields)


def test_urls_name_servers_of_the_compose_file():
    hosts = {
        host
        for service in ours().values()
        for value in service["environment"].values()
        for host in re.findall(r"://(?:[^/]*@)?([a-z]+):\d+", str(value))
    }
    assert hosts == {"postgres", "rabbitmq", "consul", "mailpit"}
    assert hosts <= set(services())


def test_every_service_has_a_database():
    script = (ROOT / "deploy/postgresql/databases.sql").read_text()
    assert re.findall(r"^CREATE DATABASE (\w+)", script, re.MULTILINE) == list(SERVICES)


def test_every_variable_is_required():
    assert variables()
    for name, rest in variables().items():
        assert rest.startswith(":?"), f"{name} is not required"


def test_no_secret_is_written_in_the_compose_file():
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if SECRET_NAME.search(variable):
                assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name}: {variable}"
            # A URL's password stands between the user's colon and the @.
            for password in re.findall(r"://[^:/@]+:(.+)@", str(value)):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", password), f"{name}: {variable}"


def test_example_env_file_names_every_secret_without_a_value():
    lines = (ROOT / ".env.example").read_text().splitlines()
    example = dict(line.split("=") for line in lines if line and not line.startswith("#"))
    passed_on = {
        variable
        for service in services().values()
        for variable, value in service.get("environment", {}).items()
        if value is None
    }
    assert set(example) == set(variables()) | passed_on
    assert set(example.values()) == {""}


def test_ports_are_published_on_the_loopback_only():
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published["gateway"] == [f"127.0.0.1:8000:{environment_of('gateway')['GATEWAY_PORT']}"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_dependencies_on_health_have_a_health_check():
    for service in services().values():
        for dependency, options in service.get("depends_on", {}).items():
            if options["condition"] == "service_healthy":
                assert "healthcheck" in services()[dependency], dependency


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_long_running_container_drains_restarts_and_is_checked(service):
    described = ours()[service]
    assert seconds(described["stop_grace_period"]) > DRAIN_SECONDS
    assert described["restart"] == "unless-stopped"
    assert described["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("service", ours())
def test_container_has_minimal_privileges(service):
    described = ours()[service]
    assert described["read_only"]
    assert described["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in described["security_opt"]


def test_only_the_demo_profile_seeds():
    assert [name for name, service in services().items() if "profiles" in service] == ["seed"]


def test_server_images_have_a_version():
    for name, service in services().items():
        assert re.search(r":.*[\w.]", service["image"]), name
        assert not service["image"].endswith(":latest"), name


def test_volumes_and_mounted_files_exist():
    named = yaml.safe_load(COMPOSE)["volumes"]
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in named, volume
