"""Where the outside systems are, read once from the environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tidegate.errors import PlanError
from tidegate.settings import Settings, variable


def refused(environment: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(PlanError) as error:
        Settings.from_environment(environment)
    assert error.value.code == "settings"
    return error.value.mistakes


def test_an_empty_environment_means_the_embedded_servers_on_loopback() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    addresses = [settings.temporal, settings.redis, settings.pools, settings.gateway]
    assert all("127.0.0.1" in address for address in addresses)


def test_each_setting_is_read_from_its_own_variable() -> None:
    given = {
        "temporal": "temporal.example:7233",
        "temporal_ui": "https://temporal.example",
        "namespace": "launches",
        "redis": "rediss://redis.example:6380/1",
        "record": "postgresql://record.example/tidegate",
        "prometheus": "http://prometheus.example:9090",
        "pools": "http://pools.example:7070",
        "gateway": "https://gateway.example",
        "console": "http://127.0.0.1:9999",
        "state": "/var/lib/tidegate",
        "keys": "/run/secrets/keys.json",
        "previews": "/var/lib/tidegate/previews",
        "webhooks": "/etc/tidegate/webhooks.yaml",
        "callers": "/etc/tidegate/callers.yaml",
        "api_key": "k-1",
        "build": "2026-11-26.1",
        "node": "gpu-17",
        "nvml": "/opt/libnvidia-ml.so",
        "gpu_type": "h100",
        "pod_resources": "/var/lib/kubelet/pod-resources/kubelet.sock",
        "metrics": "0.0.0.0:9464",
    }
    settings = Settings.from_environment({variable(name): given[name] for name in given})
    assert {name: str(getattr(settings, name)) for name in Settings.model_fields} == given


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert Settings.from_environment({"TIDEGATE_REDIS": ""}) == Settings()


def test_variables_of_others_are_none_of_its_business() -> None:
    environment = {"REDIS": "nonsense", "TIDEGATE_CACHE": "/tmp/cache", "PATH": "/bin"}
    assert Settings.from_environment(environment) == Settings()


def test_every_wrong_variable_is_named_at_once_with_an_example() -> None:
    wrong = {
        "TIDEGATE_TEMPORAL": "temporal.example",
        "TIDEGATE_REDIS": "localhost:6379",
        "TIDEGATE_RECORD": "tidegate.db",
    }
    temporal, redis, record = refused(wrong)
    assert temporal == (
        'TIDEGATE_TEMPORAL: got "temporal.example", expected host:port. '
        'Write it like "127.0.0.1:7233".'
    )
    assert redis == (
        'TIDEGATE_REDIS: got "localhost:6379", expected a URL. '
        'Write it like "redis://127.0.0.1:6379/0".'
    )
    assert record == (
        'TIDEGATE_RECORD: got "tidegate.db", expected a URL. Write it like "sqlite:///tidegate.db".'
    )


def test_no_password_is_shown() -> None:
    (mistake,) = refused({"TIDEGATE_RECORD": "gate:hunter2@record.example/tidegate"})
    assert mistake.startswith('TIDEGATE_RECORD: got "***@record.example/tidegate", expected a URL')
    given = {
        "TIDEGATE_RECORD": "postgresql://gate:hunter2@record.example/tidegate",
        "TIDEGATE_REDIS": "redis://:hunter2@redis.example",
    }
    assert "hunter2" not in repr(Settings.from_environment(given))


@pytest.mark.parametrize("wrong", [":7233", "host:", "host:port", "http://host:7233", "host:7_2"])
def test_a_temporal_address_is_host_and_port(wrong: str) -> None:
    assert len(refused({"TIDEGATE_TEMPORAL": wrong})) == 1


def test_settings_are_settled() -> None:
    with pytest.raises(ValidationError):
        Settings().node = "another"  # type: ignore[misc]


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert Settings().state == Path(".tidegate")


@pytest.mark.parametrize(
    ("given", "node"),
    [({}, None), ({"TIDEGATE_NODE": "gpu-7"}, "gpu-7"), ({"TIDEGATE_NODE": "local"}, "local")],
)
def test_a_node_is_its_own_only_where_it_is_named(given: dict[str, str], node: str | None) -> None:
    assert Settings.from_environment(given).own_node == node
