from pathlib import Path

import pytest

from infra.settings import SettingsError, describe_settings, load_settings, variable


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[gateway]\nport = 1000\nalias = 'from-file'\n")
    settings = load_settings(tmp_path, {"THUMBWHEEL_GATEWAY__PORT": "2000"})
    assert (settings.gateway.port, settings.gateway.alias, settings.gateway.host) == (2000, "from-file", "127.0.0.1")


def test_every_setting_says_where_its_value_came_from(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[gateway]\nalias = 'from-file'\n")
    environ = {"THUMBWHEEL_GATEWAY__PORT": "2000"}
    found = {line.name: line for line in describe_settings(load_settings(tmp_path, environ), environ)}
    assert found["gateway.port"].source == "THUMBWHEEL_GATEWAY__PORT"
    assert found["gateway.alias"].source == "config.toml"
    assert found["gateway.host"].source == "default"
    assert all(line.description for line in found.values())


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"THUMBWHEEL_GATEWAY__PROT": "1"}, "gateway.prot: there is no such setting"),
        ({"THUMBWHEEL_GATEWAY__PORT": "many"}, "gateway.port: .*integer"),
        ({"THUMBWHEEL_GATEWAY__PORT": "70000"}, "gateway.port: .*65535"),
        ({"THUMBWHEEL_KITCHEN__PORT": "1"}, "kitchen: there is no such setting"),
    ],
)
def test_an_unknown_or_bad_setting_is_named(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(tmp_path, environ)


def test_every_bad_setting_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {"THUMBWHEEL_GATEWAY__PROT": "1", "THUMBWHEEL_TRAINER__SEED": "-1"})
    assert "gateway.prot" in str(caught.value)
    assert "trainer.seed" in str(caught.value)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[gateway")
    with pytest.raises(SettingsError, match=r"config\.toml"):
        load_settings(tmp_path, {})


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path, {"THUMBWHEEL_CONFIG": str(tmp_path / "nowhere.toml")})


def test_secrets_are_masked(tmp_path: Path) -> None:
    environ = {variable("infra", "secret"): "do-not-show"}
    settings = load_settings(tmp_path, environ)
    shown = [str(line.value) for line in describe_settings(settings, environ)]
    assert not any("do-not-show" in value for value in shown)
    assert "do-not-show" not in repr(settings)


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.gateway.port = 1  # type: ignore[misc]


def test_lists_are_written_with_commas(tmp_path: Path) -> None:
    environ = {"THUMBWHEEL_GATEWAY__CORS_ORIGINS": "https://a.example, https://b.example"}
    assert load_settings(tmp_path, environ).gateway.cors_origins == ("https://a.example", "https://b.example")


def test_the_full_profile_names_every_server_it_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="kafka_bootstrap_servers, database_url, redis_url, secret.*make services"):
        load_settings(tmp_path, {variable("infra", "profile"): "full"})


def test_shares_of_raters_leave_some_to_the_reward_model(tmp_path: Path) -> None:
    """By bounds of their own, so that whatever the schema of a cycle's settings takes is taken."""
    most = load_settings(
        tmp_path, {variable("trainer", "judge_share"): "0.6", variable("trainer", "guard_share"): "0.3"}
    )
    assert most.trainer.judge_share + most.trainer.guard_share < 1
    for name in ("judge_share", "guard_share"):
        with pytest.raises(SettingsError, match=name):
            load_settings(tmp_path, {variable("trainer", name): "0.61"})


def test_of_a_servers_address_only_the_password_is_hidden(tmp_path: Path) -> None:
    environ = {variable("infra", "redis_url"): "redis://:do-not-show@broker:6379/0"}
    found = {line.name: line for line in describe_settings(load_settings(tmp_path, environ), environ)}
    assert found["infra.redis_url"].value == "redis://:********@broker:6379/0"


def test_the_profile_that_was_started_last_holds_until_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "services").mkdir()
    (tmp_path / "run" / "profile").write_text("full")
    (tmp_path / "services" / "settings.toml").write_text(
        '[infra]\nkafka_bootstrap_servers = ["k:1"]\ndatabase_url = "d"\nredis_url = "r"\nsecret = "s"\n'
    )
    found = {line.name: line for line in describe_settings(load_settings(tmp_path, {}), {})}
    assert (found["infra.profile"].value, found["infra.profile"].source) == ("full", "last start")
    assert found["infra.kafka_bootstrap_servers"].source == "make services"
    assert load_settings(tmp_path, {variable("infra", "profile"): "embedded"}).infra.kafka_bootstrap_servers == ()


@pytest.mark.parametrize(
    "keys",
    [
        "postgresql+psycopg://thumbwheel:do-not-show@db:5432/thumbwheel",
        "postgresql://another:do-not-show@DB/thumbwheel?sslmode=require",
    ],
)
def test_the_main_database_may_not_hold_the_keys(tmp_path: Path, keys: str) -> None:
    main = "postgresql+psycopg://thumbwheel:do-not-show@db/thumbwheel"
    environ = {variable("infra", "database_url"): main, variable("infra", "keyring_url"): keys}
    with pytest.raises(SettingsError, match="keyring_url: names the same database as database_url") as refused:
        load_settings(tmp_path, environ)
    assert "do-not-show" not in str(refused.value)
    apart = keys.replace("/thumbwheel", "/keys")
    settings = load_settings(tmp_path, {**environ, variable("infra", "keyring_url"): apart})
    assert settings.infra.keyring_url.get_secret_value() == apart


def test_keys_lie_in_postgresql_or_in_the_file_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="keyring_url: must be a postgresql URL"):
        load_settings(tmp_path, {variable("infra", "keyring_url"): "sqlite:///keys.db"})


def test_what_has_more_to_it_than_a_list_is_written_as_json(tmp_path: Path) -> None:
    steps = '[{"kind": "shadow", "share": 0.1}, {"share": 0.25, "pairs": 0.5, "on_inconclusive": "abort"}]'
    found = load_settings(tmp_path, {"THUMBWHEEL_SERVING__ROLLOUT_STEPS": steps}).serving.rollout_steps
    assert [(step.title, step.pairs) for step in found] == [("shadow 10%", 0.0), ("canary 25%", 0.5)]


@pytest.mark.parametrize(
    ("steps", "wrong"),
    [('[{"share": 2}]', "rollout_steps.0.share"), ('[{"share": 0.1]', "begins like JSON"), ("0.1", "rollout_steps.0")],
)
def test_a_step_that_makes_no_sense_is_refused_by_its_name(tmp_path: Path, steps: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        load_settings(tmp_path, {"THUMBWHEEL_SERVING__ROLLOUT_STEPS": steps})
