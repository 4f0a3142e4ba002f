"""Settings: file, environment, command line; errors that name the key; secrets that stay unseen."""

import json
import pickle
import tomllib
from pathlib import Path

import msgspec
import pytest

from antiphon import config, config_toml
from antiphon.errors import ConfigError
from antiphon.runtime.stages import OPTIONS
from antiphon.secret import Secret, lookup, read_secrets

KEY = "sk-do-not-show-me"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def put(text: str, name: str = "antiphon.toml") -> Path:
        place = tmp_path / name
        place.write_text(text, encoding="utf-8")
        return place

    return put


def failure(**environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(environ=environ)
    return caught.value


def test_the_defaults_need_nothing(write) -> None:
    settings = config.load(environ={})
    assert settings == config.Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8004)
    assert [each.provider for each in settings.llm.chain()] == ["extractive"]


def test_the_printed_file_is_complete_and_reads_back_as_the_defaults(write) -> None:
    text = config_toml.render(config.Settings())
    read = config.load(write(text), environ={})
    assert msgspec.structs.replace(read, source="") == config.Settings()
    shown = tomllib.loads(text)
    for section, kind in config.SECTIONS.items():
        for field in msgspec.structs.fields(kind):
            assert field.name in {"settings", "fallback"} or field.name in shown[section] or f"# {field.name}" in text


def test_a_file_with_everything_reads_back(write) -> None:
    source = """
[llm]
provider = "openai"
model = "a \\"b\\" \\\\ \\u007f"
fallback = [{ provider = "extractive", depth = 2 }]
headers = { "X-Gate way" = "1" }
[tts]
provider = "fake"
voice = "hi"
tts_ms = 1.5
[policy]
budget_ms = 700
"""
    first = config.load(write(source), environ={})
    assert first.llm.settings == {"model": 'a "b" \\ \x7f', "headers": {"X-Gate way": "1"}}
    assert [(each.provider, each.settings) for each in first.llm.chain()][1] == ("extractive", {"depth": 2})
    assert (first.tts.voice, first.tts.settings) == ("hi", {"tts_ms": 1.5})
    assert config.load(write(config_toml.render(first)), environ={}) == first


def test_the_working_directory_file_is_found_and_the_environment_wins(write) -> None:
    write('[server]\nport = 9000\nhost = "0.0.0.0"\n[line]\nmessage_ms = 20\nlead_ms = 200\n')
    environ = {"ANTIPHON_SERVER_PORT": "9100", "ANTIPHON_LINE_LEAD_MS": "40"}
    settings = config.load(environ=environ, overrides={"line.lead_ms": 60})
    assert (settings.server.port, settings.server.host, settings.line.lead_ms) == (9100, "0.0.0.0", 60)  # noqa: S104
    assert settings.source == "antiphon.toml"
    with pytest.raises(ConfigError, match=r"other\.toml.*cannot be read"):
        config.load("other.toml", environ={})


def test_the_usual_variables_of_the_contract_b21_b22_b23(write) -> None:
    environ = {"MAX_CONCURRENT_SESSIONS": "7", "SESSION_TTL_SECONDS": "60", "LOG_LEVEL": "debug"}
    settings = config.load(environ=environ)
    assert (settings.server.max_sessions, settings.server.session_ttl_s, settings.log.level) == (7, 60.0, "DEBUG")
    assert config.load(environ={"ANTIPHON_JOURNAL": "a.sqlite"}).journal.path == "a.sqlite"
    own = config.load(environ={**environ, "ANTIPHON_SERVER_MAX_SESSIONS": "8"})
    assert own.server.max_sessions == 8


REDIS = "redis://:sk-do-not-show-me@cache:6379/0"


def test_redis_url_is_a_secret_and_the_place_of_the_journal_b16(write) -> None:
    settings = config.load(environ={"REDIS_URL": REDIS})
    assert settings.journal.place == REDIS
    assert settings.journal.path == config.JournalSettings().path
    shown = [repr(settings), json.dumps(settings.as_dict()), config_toml.render(settings)]
    assert not any(KEY in each for each in shown)
    assert config.load(environ={}).journal.place == ".antiphon/journal.sqlite"
    place = write(f"REDIS_URL={REDIS}\n", "keys")
    place.chmod(0o600)
    assert config.load(environ={"ANTIPHON_SECRETS_FILE": str(place)}).journal.place == REDIS


@pytest.mark.parametrize(
    ("file", "environ", "option", "place"),
    [
        ("", {"ANTIPHON_JOURNAL": "a.sqlite", "REDIS_URL": "redis://a"}, None, "redis://a"),
        ("", {"ANTIPHON_JOURNAL": "redis://b", "REDIS_URL": "redis://a"}, None, "redis://b"),
        ("", {"ANTIPHON_JOURNAL_URL": "redis://b"}, None, "redis://b"),
        ("", {"REDIS_URL": "redis://a"}, "a.sqlite", "a.sqlite"),
        ("", {"REDIS_URL": "redis://a"}, "redis://c", "redis://c"),
        ('url = "redis://d"', {}, None, "redis://d"),
        ('url = "redis://d"', {}, "a.sqlite", "a.sqlite"),
        ('url = "redis://d"', {"REDIS_URL": "redis://a"}, None, "redis://a"),
        ('path = "redis://d"', {}, None, "redis://d"),
        ('path = "redis://d"', {"REDIS_URL": "redis://a"}, None, "redis://a"),
        ('path = "e.sqlite"\nurl = ""', {}, None, "e.sqlite"),
    ],
)
def test_which_place_wins(write, file: str, environ: dict[str, str], option: str | None, place: str) -> None:
    write(f"[journal]\n{file}\n")
    overrides = {"journal.path": option} if option else {}
    settings = config.load(environ=environ, overrides=overrides)
    assert settings.journal.place == place
    assert settings.journal.synchronous == "full"


@pytest.mark.parametrize("url", ["cache:6379/0", "127.0.0.1:6379", ":sk-do-not-show-me@cache", "redis:/cache"])
@pytest.mark.parametrize("variable", ["REDIS_URL", "ANTIPHON_JOURNAL_URL"])
def test_a_url_without_its_scheme_is_no_file(write, variable: str, url: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable}: journal.url is no URL") as refused:
        config.load(environ={variable: url})
    assert refused.value.code == "config.bad_value"
    assert url not in str(refused.value)
    assert config.load(environ={"REDIS_URL": url}, overrides={"journal.path": "a.sqlite"}).journal.place == "a.sqlite"


def test_values_of_the_environment_get_their_types(write) -> None:
    environ = {
        "ANTIPHON_SERVER_ALLOW_OPEN": "true",
        "ANTIPHON_LANGUAGES_OFFERED": "en-IN, hi-IN",
        "ANTIPHON_LLM_FALLBACK": '[{"provider": "fake", "llm_ms": 5}]',
        "ANTIPHON_LLM_MODEL": "7",
        "ANTIPHON_POLICY_BUDGET_MS": "700",
        "ANTIPHON_TTS_VOICE": "en",
    }
    settings = config.load(environ=environ)
    assert settings.server.allow_open is True
    assert settings.languages.offered == ("en-IN", "hi-IN")
    assert settings.llm.chain()[1].settings == {"llm_ms": 5}
    assert settings.llm.settings == {"model": "7"}
    assert settings.policy == {"budget_ms": 700}
    assert settings.tts.voice == "en"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1", r"antiphon\.toml \[server\]: there is no setting 'prot': did you mean 'port'"),
        ("[sever]\nport = 1", r"antiphon\.toml: .*'sever': did you mean 'server'"),
        ('[server]\nport = "8004"', r"server\.port: expected `int`, got `str`"),
        ("[server]\nport = 70000", r"server\.port: .*<= 65535"),
        ("[line]\nmessage_ms = 5", r"line\.message_ms: .*>= 20"),
        ("[line]\nlead_ms = 60", r"lead_ms is 60: give message_ms, 100, or more"),
        ('[journal]\nsynchronous = "sometimes"', r"journal\.synchronous: .*choose one of full, normal, off"),
        ('[server]\ntls_cert = "a.pem"', "tls_cert and tls_key"),
        ('[server]\npublic_url = "voice.example.org"', "https://"),
        ('[languages]\ndefault = "fr-FR"', "not among offered"),
        ("server = 3", r"write \[server\]"),
        ("[server\n", "not TOML"),
        ("[llm]\nfallback = 'fake'", "fallback must be a list"),
        ("[llm]\nfallback = [{ model = 'x' }]", "names its provider: it has 'model'"),
        ("[llm]\nfallback = [{ provder = 'openai' }]", "by 'provder' you may mean 'provider'"),
        ("[llm]\nfallback = [{}]", "it has nothing"),
        (
            "[stt.limits]\nhedge = true",
            r"\[stt.limits\]: there is no setting 'hedge': it knows failures, first_s, open_s",
        ),
        ("[stt.limits]\nbetween_s = 1", "no setting 'between_s'"),
        ("[tts.limits]\nshare = 0.5", "no setting 'share'"),
        ("[intent.limits]\nretries = 1", "no setting 'retries'"),
        ("[retrieval.limits]\nshare = 0.5", "it knows failures, first_s, open_s"),
        ("[llm.limits]\nfrist_s = 1", "did you mean 'first_s'"),
        ("[intent]\nfallback = [{ provider = 'fake' }]", "takes no fallback"),
        ("[stt]\nprovider = 3", "provider: expected `str`"),
    ],
)
def test_a_wrong_file_says_where_and_what(write, text: str, words: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=words):
        config.load(environ={})


def test_every_stage_takes_the_limits_that_it_goes_by(write) -> None:
    for stage, options in OPTIONS.items():
        given = dict.fromkeys(options, 1) | ({"hedge": True} if "hedge" in options else {})
        text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
        limits = getattr(config.load(write(f"[{stage}.limits]\n{text}"), environ={}), stage).limits
        assert {name: getattr(limits, name) for name in given} == given


def test_tables_come_from_the_environment_as_json() -> None:
    made = config.load(
        environ={
            "ANTIPHON_TTS_VOICES": '{"te-IN": "anushka"}',
            "ANTIPHON_TWILIO_SAY_VOICES": '{"hi-IN": "Google.hi-IN-Standard-B"}',
            "ANTIPHON_LLM_LIMITS": '{"first_s": 2.5}',
        }
    )
    assert made.tts.voices == {"te-IN": "anushka"}
    assert made.twilio.say_voices == {"hi-IN": "Google.hi-IN-Standard-B"}
    assert (made.llm.limits.first_s, made.llm.limits.retries) == (2.5, config.Settings().llm.limits.retries)
    for text in ("anushka", "[1]", "{", '{"te-IN": 3}'):
        error = failure(ANTIPHON_TTS_VOICES=text)
        assert error.code == "config.bad_value"
        assert "ANTIPHON_TTS_VOICES" in str(error)
    assert "write it as JSON" in str(failure(ANTIPHON_TTS_VOICES="anushka"))
    assert "no setting 'frist_s'" in str(failure(ANTIPHON_LLM_LIMITS='{"frist_s": 1}'))


def test_a_wrong_variable_is_named(write) -> None:
    assert "ANTIPHON_SERVER_PROT" in str(failure(ANTIPHON_SERVER_PROT="1"))
    assert "did you mean 'port'" in str(failure(ANTIPHON_SERVER_PROT="1"))
    assert "ANTIPHON_SERVER_PORT: server.port: expected `int`" in str(failure(ANTIPHON_SERVER_PORT="many"))
    assert "choose one of DEBUG, INFO, WARNING, ERROR" in str(failure(LOG_LEVEL="loud"))
    with pytest.raises(ConfigError, match="command line"):
        config.load(environ={}, overrides={"sever.port": 1})


def test_variables_that_are_not_ours_do_not_stop_the_program(write) -> None:
    environ = {
        "ANTIPHON_SERVICE_HOST": "10.0.0.1",
        "ANTIPHON_PORT_8004_TCP": "tcp://10.0.0.1:8004",
        "ANTIPHON_SEVER_X": "1",
    }
    assert [each.split()[0] for each in config.load(environ=environ).warnings] == ["ANTIPHON_SEVER_X"]


@pytest.mark.parametrize(
    "text",
    [
        f'[twilio]\nauth_token = "{KEY}"',
        f'[llm]\nprovider = "openai"\napi_key = "{KEY}"',
        f'[llm]\nfallback = [{{ provider = "openai", api_key = "{KEY}" }}]',
        f'[journal]\nurl = "redis://:{KEY}@cache:6379"',
        f'[journal]\npath = "redis://user:{KEY}@cache:6379"',
        f'[llm]\nbase_url = "https://user:{KEY}@llm.example.org/v1"',
    ],
)
def test_a_secret_in_the_settings_file_is_refused_and_not_repeated(write, text: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=r"is a secret.*environment") as caught:
        config.load(environ={})
    assert KEY not in str(caught.value)


def test_a_secret_is_never_shown(write) -> None:
    settings = config.load(environ={"TWILIO_AUTH_TOKEN": KEY, "ANTIPHON_LLM_API_KEY": KEY})
    assert settings.twilio.auth_token.reveal() == KEY
    secret = settings.llm.settings["api_key"]
    assert isinstance(secret, Secret)
    assert secret.reveal() == KEY
    shown = [
        repr(settings),
        str(settings),
        f"{secret} {secret!r} {secret:>20}",
        json.dumps(settings.as_dict()),
        config_toml.render(settings),
    ]
    assert not any(KEY in each for each in shown)
    assert settings.as_dict()["twilio"]["auth_token"] == "***"
    lines = config_toml.render(settings).splitlines()
    assert '# api_key = "***"' in lines
    assert any(line.startswith('# auth_token = "***"') for line in lines)
    for write_out in (json.dumps, msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps):
        with pytest.raises(TypeError):
            write_out(secret)


def test_a_secret_within_what_the_environment_gives_as_text_is_not_printed() -> None:
    environ = {
        "ANTIPHON_LLM_FALLBACK": f'[{{"provider": "openai", "api_key": "{KEY}"}}]',
        "ANTIPHON_LLM_BASE_URL": f"https://me:{KEY}@models.example/v1",
    }
    shown = config_toml.render(config.load(environ=environ))
    assert KEY not in shown
    assert 'base_url = "https://me:***@models.example/v1"' in shown


def test_dates_and_numbers_without_end_are_printed_as_toml(write) -> None:
    settings = config.load(write("[llm]\nsince = 2024-02-03\nmost = inf\n"), environ={})
    assert config.load(write(config_toml.render(settings)), environ={}).llm == settings.llm


def test_the_secrets_file_is_read_below_the_environment(write) -> None:
    place = write(
        f"# keys\n\nexport TWILIO_AUTH_TOKEN='{KEY}'\nOPENAI_API_KEY={KEY}-2\nANTIPHON_LLM_API_KEY=\"a=b\"\n", "keys"
    )
    place.chmod(0o600)
    environ = {"ANTIPHON_SECRETS_FILE": str(place)}
    settings = config.load(environ=environ)
    assert settings.twilio.auth_token.reveal() == KEY
    assert settings.llm.settings["api_key"] == Secret("a=b")
    assert settings.warnings == ()
    assert lookup("OPENAI_API_KEY", environ) == Secret(f"{KEY}-2")
    assert lookup("OPENAI_API_KEY", {**environ, "OPENAI_API_KEY": "x"}) == Secret("x")
    assert lookup("NOTHING", environ) is None
    assert config.load(environ={**environ, "TWILIO_AUTH_TOKEN": "env"}).twilio.auth_token == Secret("env")


def test_a_careless_secrets_file_is_warned_about_and_a_broken_one_refused(write) -> None:
    place = write("A=1\n", "keys")
    place.chmod(0o644)
    assert "chmod 600" in read_secrets(place)[1][0]
    assert "chmod 600" in config.load(environ={"ANTIPHON_SECRETS_FILE": str(place)}).warnings[0]
    with pytest.raises(ConfigError, match="line 1 is not KEY=VALUE") as caught:
        read_secrets(write(KEY, "keys"))
    assert KEY not in str(caught.value)
    with pytest.raises(ConfigError, match="at most"):
        read_secrets(write("A" * 70_000, "keys"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secrets("nowhere")


def test_a_file_that_begins_with_a_byte_order_mark_is_read(write, tmp_path: Path) -> None:
    write("[server]\nport = 9001\n")
    place = tmp_path / "antiphon.toml"
    place.write_text(place.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert config.load(environ={}).server.port == 9001
