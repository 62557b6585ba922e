"""Whatever the Dockerfile and the compose file name of the product is there: commands, settings, paths, routes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from compose_file import composed, service
from typer.main import get_command

from app.cli import cli
from app.main import create_app
from app.settings import Milvus, Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STEPS = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
FINAL = STEPS[max(number for number, step in enumerate(STEPS) if step.startswith("FROM ")) :]
PRODUCT = ("api", "worker", "api-gpu", "worker-gpu")
PROBE = re.compile(r"http://127\.0\.0\.1:(\d+)(/\w+)'")


def image_environment() -> dict[str, str]:
    line = next(step for step in FINAL if step.startswith("ENV "))
    return dict(re.findall(r"(CROSSBIT_\w+)=(\S+)", line))


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for variable, value in (image_environment() | service(name)["environment"]).items():
        monkeypatch.setenv(variable, value)
    return load_settings()


def parse_command(words: list[str]) -> None:
    """Exits where the command line has no such command or option."""
    group = get_command(cli)
    command = group.get_command(group.make_context("crossbit", words, resilient_parsing=True), words[0])  # type: ignore[attr-defined]
    assert command is not None, f"crossbit {words[0]}"
    command.make_context(words[0], words[1:])


def check_probe(code: str) -> None:
    matched = PROBE.search(code)
    assert matched is not None
    assert int(matched[1]) == Settings().port
    assert matched[2] == "/readyz"
    compile(code, "probe", "exec")


@pytest.mark.parametrize("name", PRODUCT)
def test_services_run_commands_that_exist(name: str) -> None:
    parse_command(service(name)["command"])
    kind, program, *words = service(name)["healthcheck"]["test"]
    assert kind == "CMD"
    if program == "crossbit":
        parse_command(words)
    else:
        assert (program, words[0]) == ("python", "-c")
        check_probe(words[1])


def test_the_path_that_is_probed_is_a_route() -> None:
    assert "/readyz" in create_app(Settings()).openapi()["paths"]


@pytest.mark.parametrize("name", PRODUCT)
def test_services_set_settings_that_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {f"CROSSBIT_{field.upper()}" for field in Settings.model_fields}
    fields |= {f"CROSSBIT_MILVUS__{field.upper()}" for field in Milvus.model_fields}
    assert service(name)["environment"].keys() | image_environment().keys() <= fields
    settings = settings_of(name, monkeypatch)
    assert settings.worker == "none"
    assert settings.demo


@pytest.mark.parametrize("name", PRODUCT)
def test_volumes_are_the_folders_of_the_home(name: str) -> None:
    settings = Settings(home=Path(image_environment()["CROSSBIT_HOME"]))
    mounted = {volume.split(":")[1]: volume.endswith(":ro") for volume in service(name)["volumes"]}
    assert mounted == {
        str(settings.artifacts_dir): True,
        str(settings.data_dir): True,
        str(settings.indexes_dir): False,
        str(settings.jobs_dir): False,
    }


@pytest.mark.parametrize("name", PRODUCT)
def test_services_may_do_no_more_than_they_need(name: str) -> None:
    assert service(name)["read_only"] is True
    assert service(name)["cap_drop"] == ["ALL"]
    assert service(name)["tmpfs"] == ["/tmp"]  # noqa: S108  the container's own
    assert {"mem_limit", "cpus", "pids_limit"} <= service(name).keys()


def test_ports_are_those_of_the_product_and_stay_on_this_host() -> None:
    for name in ("api", "api-gpu"):
        assert service(name)["ports"] == [f"127.0.0.1:8000:{Settings().port}"]
    assert f"EXPOSE {Settings().port}" in FINAL


def test_secrets_are_files_that_settings_name() -> None:
    for name, one in composed()["services"].items():
        assert set(one.get("secrets", ())) <= composed()["secrets"].keys(), name
        for value in one.get("environment", {}).values():
            if str(value).startswith("/run/secrets/"):
                assert Path(value).name in one["secrets"], name


def test_starts_are_gated_by_health_checks() -> None:
    for name, one in composed()["services"].items():
        for other, gate in one.get("depends_on", {}).items():
            assert gate == {"condition": "service_healthy"}, name
            assert "healthcheck" in service(other), name


def test_files_that_services_mount_are_there() -> None:
    mounted = [
        volume.split(":")[0]
        for one in composed()["services"].values()
        for volume in one.get("volumes", ())
        if volume.startswith("./")
    ]
    assert len(mounted) > 2
    for path in mounted:
        assert (ROOT / path).exists(), path


def test_prometheus_scrapes_the_service_under_the_name_that_alerts_know() -> None:
    config = yaml.safe_load((ROOT / "docs" / "operations" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "crossbit"
    assert job["static_configs"] == [{"targets": [f"api:{Settings().port}"]}]
    assert Path(job["authorization"]["credentials_file"]).name in service("prometheus")["secrets"]


def test_every_profile_has_services() -> None:
    profiles = {profile for one in composed()["services"].values() for profile in one.get("profiles", ())}
    assert profiles == {"gpu", "postgres", "milvus", "observability"}


@pytest.mark.parametrize("name", ["api", "api-gpu"])
def test_build_arguments_are_those_of_the_dockerfile(name: str) -> None:
    known = {re.split("[= ]", step)[1] for step in STEPS if step.startswith("ARG ")}
    assert service(name)["build"]["args"].keys() <= known


def test_the_image_has_at_most_three_layers_above_its_base() -> None:
    assert len([step for step in FINAL if step.startswith(("RUN ", "COPY ", "ADD "))]) <= 3


def test_the_image_starts_the_product_as_nobody_in_particular() -> None:
    assert 'ENTRYPOINT ["crossbit"]' in FINAL
    assert 'CMD ["serve"]' in FINAL
    parse_command(["serve"])
    assert any(re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", step) for step in FINAL)
    probe = next(step for step in FINAL if step.startswith("HEALTHCHECK "))
    check_probe(json.loads(probe.partition("CMD ")[2])[2])


def test_the_image_says_the_version_of_the_product() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ARG VERSION={project['version']}" in FINAL
    assert project["scripts"].keys() == {"crossbit"}


def test_what_is_copied_is_in_the_checkout_and_let_in() -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split() if line[0] == "!"]
    assert {"app", "model", "encoders", "index", "pyproject.toml", "setup.py"} <= set(let_in)
    copied = [word for step in STEPS if re.match(r"COPY (?!--from|\.)", step) for word in step.split()[1:-1]]
    assert set(copied) <= set(let_in)
    for path in let_in:
        assert (ROOT / path).exists(), path
