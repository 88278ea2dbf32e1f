"""The daemon as a process that is read over TLS: what it refuses at its start, and a certificate that is renewed."""

from __future__ import annotations

import os
import signal
import ssl
from pathlib import Path

import httpx

from tests.certificates import Authority
from tests.daemons import PATIENCE, daemon, wait_for
from tests.live.servers import free_port


def test_a_renewed_certificate_is_shown_after_a_reload(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    cert, key = old.sign("node")
    config = tmp_path / "gpumon.yaml"
    config.write_text(
        "sources: {nvml: {enabled: false}, kernel_log: {enabled: false}, vllm: {enabled: false}}\n"
        f"api: {{read_token: 5c7c1c9a64e0ffd1a2, tls: {{cert_file: {cert}, key_file: {key}}}}}\n"
    )
    port = free_port()

    def answers(by: Authority) -> bool:
        context = ssl.create_default_context(cafile=by.ca)
        with httpx.Client(trust_env=False, timeout=PATIENCE, verify=context) as client:
            try:
                return client.get(f"https://127.0.0.1:{port}/-/healthy").text == "gpumon is Healthy.\n"
            except httpx.ConnectError:
                return False

    with daemon(tmp_path, "--config", str(config), "--listen", f"127.0.0.1:{port}") as one:
        wait_for(lambda: answers(old), "an answer")
        for now, before in zip(new.sign("node"), (cert, key), strict=True):
            os.replace(now, before)
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: answers(new), "the new certificate", 20)  # sooner than it would look by itself
        assert not answers(old)
        assert "the API shows the certificate of" in one.log()
        assert "5c7c1c9a64e0ffd1a2" not in one.log()
        assert one.end() == 0
