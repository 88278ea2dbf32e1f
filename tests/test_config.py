"""gpumon.yaml: what it gives, what it refuses, and that it shows no secret."""

from pathlib import Path

import pytest

from monitor.config import ConfigError, Keeping, Secret, Tls, load, loads, parse_listen
from monitor.notify.route import Route

WHOLE = """
node: {hostname: n1, job: gpus, instance: "n1:9000"}
state_directory: state
api: {socket: /tmp/x.sock, listen: "127.0.0.1:9000"}
sources:
  nvml: {interval: 500ms, deadline: 3s}
  host: {enabled: false, model_caches: [models], rootfs: /host}
  kernel_log: {enabled: false}
  vllm:
    interval: 2s
    discover: false
    servers:
      - http://127.0.0.1:8000
      - {url: "https://other:8443/metrics", api_key: {env: KEY}, gpus: [0, GPU-1], ca_file: ca.pem, log: {file: v.log}}
alerting: {rule_files: [mine.yaml], evaluation_interval: 15s}
receivers:
  - {name: ops, apprise: [{env: SLACK}, "json://localhost:1/"]}
  - {name: mail, apprise: {file: mail-url}, send_resolved: false}
route: {receiver: [ops, mail]}
"""


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return [str(problem) for problem in caught.value.problems]


def test_everything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gpumon.yaml"
    path.write_text(WHOLE)
    config = load(path)
    assert (config.hostname, config.job, config.instance) == ("n1", "gpus", "n1:9000")
    assert config.state_directory == tmp_path / "state"
    assert config.api.listen == ("127.0.0.1", 9000)
    assert (config.nvml.interval, config.nvml.deadline, config.host.enabled) == (0.5, 3.0, False)
    first, second = config.vllm_servers
    assert (first.url, first.server) == ("http://127.0.0.1:8000", "n1:8000")
    assert (second.url, second.server, second.gpus) == ("https://other:8443", "other:8443", ("0", "GPU-1"))
    assert (second.ca_file, second.log_file) == (tmp_path / "ca.pem", tmp_path / "v.log")
    assert (config.discover, config.kernel_log.enabled) == (False, False)
    assert config.model_caches == (tmp_path / "models",)
    assert config.rootfs == Path("/host")
    assert config.rule_files == (tmp_path / "mine.yaml",)
    assert config.evaluation_interval_ms == 15_000
    assert [r.name for r in config.receivers] == ["ops", "mail"]
    assert config.receivers[1].apprise == (Secret("file", str(tmp_path / "mail-url")),)
    assert config.route is not None
    assert config.route.receivers == ("ops", "mail")


def test_an_empty_file_gives_the_defaults() -> None:
    config = loads("")
    assert config.api.listen == ("127.0.0.1", 9519)
    assert config.instance == f"{config.hostname}:9519"
    assert not config.receivers


@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff"])
def test_a_file_of_nothing_is_refused(tmp_path: Path, text: str) -> None:
    """It was cut off, or is still being written: notifications must not end by that."""
    path = tmp_path / "gpumon.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"gpumon.yaml:1:1: is empty: where the defaults are meant, write {}"):
        load(path)


@pytest.mark.parametrize("text", ["{}", "# the defaults\n"])
def test_a_file_may_mean_the_defaults(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gpumon.yaml"
    path.write_text(text)
    assert load(path) == loads("")


def test_every_problem_is_told_at_once_with_its_place() -> None:
    assert told(
        'api: {listen: "0.0.0.0:9519", sockt: x}\n'
        "sources:\n"
        "  nvml: {intervall: 1s}\n"
        "receivers:\n"
        "  - {name: ops, apprise: [foo]}\n"
        "route: {receiver: opps}\n"
    ) == [
        "gpumon.yaml:1:15: 0.0.0.0 is not a loopback address, and there is nothing that a client has to show: set "
        "`read_token: {file: PATH}` (only reads, for a Prometheus), `token: {file: PATH}` (may also silence), or "
        "`client_ca_file` with `tls:`, in `api:` of gpumon.yaml; or listen on 127.0.0.1:9519",
        'gpumon.yaml:1:31: unknown field "sockt" (did you mean "socket"?)',
        'gpumon.yaml:3:10: unknown field "intervall" (did you mean "interval"?)',
        "gpumon.yaml:5:27: this is no apprise URL, such as slack://…, mailto://… or json://…",
        'gpumon.yaml:6:19: there is no receiver "opps" (did you mean "ops"?)',
    ]


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ("[http://a:1, http://a:1]", "a second server"),
        ("[ftp://a]", "not an http or https URL"),
        ("[http://a:99999]", "not a URL"),
        ("[http://a:1/v1]", "ends after the port"),
        ("[http://user:pw@a:1]", "has no place in the URL"),
        ("[{server: x}]", 'needs a "url"'),
        ("[{url: http://a:1, server: localhost:1}]", "a loopback name"),
        ("[{url: http://a:1, log: {file: x, unit: y}}]", "say where the log is"),
        ('[{url: ""}]', "a server needs a URL"),
        ("[{url: http://a:1, gpus: [-1]}]", '"-1" is no GPU'),
        ("[{url: http://a:1, gpus: [0, 0]}]", "stands here a second time"),
        ("5", "expected a list"),
    ],
)
def test_bad_servers(servers: str, words: str) -> None:
    assert words in "\n".join(told(f"sources: {{vllm: {{servers: {servers}}}}}"))


def test_a_receiver_alone_needs_no_route_and_several_do() -> None:
    assert loads("receivers: [{name: a, apprise: 'json://x'}]").route == Route("0", ("a",))
    both = "receivers: [{name: a, apprise: 'json://x'}, {name: b, apprise: 'json://y'}]"
    assert "several receivers and no route" in told(both)[0]


def test_no_problem_shows_a_secret() -> None:
    said = told("receivers: [{name: a b, apprise: ['slack://TOPSECRET/x', {evn: TOPSECRET2, file: y}]}]\nroutes: 1")
    assert not [line for line in said if "TOPSECRET/" in line]


@pytest.mark.parametrize("url", ["http://u:hush@x:99999", "ftp://u:hush@x", "http://u:hush@x:1"])
def test_no_problem_shows_a_password_of_a_url(url: str) -> None:
    (said,) = told(f"sources: {{vllm: {{servers: ['{url}']}}}}")
    assert "hush" not in said


def test_what_a_problem_quotes_cannot_command_a_terminal() -> None:
    (said,) = told('"\\e[31mfoo\\a": 1')
    assert said.isprintable()


def test_secrets_are_read_when_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_file = tmp_path / "url"
    secret = Secret("file", str(secret_file))
    with pytest.raises(ValueError, match="No such file"):
        secret.reveal()
    secret_file.write_text("slack://a\n")
    assert secret.reveal() == "slack://a"
    monkeypatch.delenv("GPUMON_TEST_URL", raising=False)
    with pytest.raises(ValueError, match="GPUMON_TEST_URL is not set"):
        Secret("env", "GPUMON_TEST_URL").reveal()
    monkeypatch.setenv("GPUMON_TEST_URL", "json://b")
    assert Secret("env", "GPUMON_TEST_URL").reveal() == "json://b"


def test_a_plain_secret_is_not_shown() -> None:
    assert "hush" not in repr(Secret("plain", "hush")) + str(loads("receivers: [{name: a, apprise: 'json://hush'}]"))


@pytest.mark.parametrize("text", ["9519", "127.0.0.1:x", "127.0.0.1:70000", ":9519"])
def test_what_is_no_listener(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("[::1]", False),
        ("127.9.0.1", False),
        ("localhost", False),
        ("0.0.0.0", True),  # noqa: S104 - nothing is bound
        ("[::]", True),
        ("10.0.0.1", True),
        ("node-7", True),
        ("127.evil.example", True),
        ("localhost.example", True),
    ],
)
def test_where_others_reach_us(host: str, is_open: bool) -> None:
    config = loads(f"api: {{listen: '{host}:9519', read_token: hush}}")
    assert config.api.is_open is is_open
    if is_open:
        with pytest.raises(ConfigError, match="is not a loopback address"):
            loads(f"api: {{listen: '{host}:9519'}}")


def test_what_a_client_shows(tmp_path: Path) -> None:
    config = loads(
        "api:\n"
        "  listen: 0.0.0.0:9519\n"
        "  read_token: {file: reader}\n"
        "  tls: {cert_file: crt.pem, key_file: /etc/key.pem, client_ca_file: ca.pem}\n",
        str(tmp_path / "gpumon.yaml"),
    )
    assert config.api.read_token == Secret("file", str(tmp_path / "reader"))
    assert config.api.tls == Tls(tmp_path / "crt.pem", Path("/etc/key.pem"), tmp_path / "ca.pem")
    with_ca = "api: {listen: '0.0.0.0:1', tls: {cert_file: a, key_file: b, client_ca_file: c}}"
    assert loads(with_ca).api.is_open
    with pytest.raises(ConfigError, match="nothing that a client has to show"):
        loads(with_ca.replace(", client_ca_file: c", ""))
    with pytest.raises(ConfigError, match="TLS needs both `cert_file` and `key_file`: key_file is missing"):
        loads("api: {tls: {cert_file: a}}")


@pytest.mark.parametrize(
    ("text", "keeping"),
    [
        ("history: {enabled: false}", Keeping(enabled=False)),
        ("history: {retention: 30d, max_size: 500MB}", Keeping(True, 30 * 86_400_000, 500_000_000)),
        ("history: {max_size: 1.5GiB}", Keeping(max_bytes=3 << 29)),
        ("history:", Keeping()),
    ],
)
def test_history(text: str, keeping: Keeping) -> None:
    assert loads(text).history == keeping


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("history: {max_size: 2G2}", "expected a size such as 500MB or 2GiB, found "),
        ("history: {max_size: 1MiB}", "1MiB is out of range: at least 16MiB"),
        ("history: {retention: 5m}", "5m is out of range: 1h to "),
        ("history: {keep: 5m}", 'unknown field "keep"'),
    ],
)
def test_a_bad_history(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert said in str(caught.value)
