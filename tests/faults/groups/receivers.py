"""A receiver that is down, slow, refuses, hangs or answers what it should not: a webhook, a mail server, an
Alertmanager."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.certificates import Authority
from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.groups.vllm import memory
from tests.faults.node import Node

_MOST_MORE = 48 << 20
"""Bytes that a receiver's answers may cost the daemon."""
_ASKED_PAUSE = 12
"""Seconds for which a receiver asks to be left alone."""


def why_failing(node: Node) -> str:
    """Why the last attempt of the receiver failed; "" where it did not."""
    try:
        (receiver,) = node.request("GET", "/api/gpumon/v1/notifications").json()["receivers"]
    except (httpx.TransportError, KeyError, ValueError):
        return ""
    return str(receiver["last_error"])


def wait_reason(node: Node, words: str) -> str:
    """The reason, once it has these words."""
    return node.wait(f"a reason with {words!r}", lambda: why if words in (why := why_failing(node)) else "")


def copies(node: Node, *names: str) -> str:
    """How often the webhook got the beginning of each of these drills, where it was more than once; each time with the
    same id."""
    ids: dict[str, Counter[str]] = {name: Counter() for name in names}
    for line in node.receivers.lines("webhook"):
        for alert in line.get("body", {}).get("alerts", ()):
            if alert["status"] == "firing" and (engine := alert["labels"].get("engine", "")) in ids:
                ids[engine][alert["eventId"]] += 1
    repeated = max((sum(each.values()) for each in ids.values()), default=0)
    if any(len(each) > 1 for each in ids.values()):
        return "copies of one event have ids that differ"
    return f"it got one {repeated} times, with the same id" if repeated > 1 else ""


def mailed(node: Node, name: str, since: float) -> float | None:
    """When the mail of a drill's beginning came; None where it did not yet."""
    for line in node.receivers.lines("mail"):
        if line["at"] >= since and line["subject"].startswith("[FIRING") and f"Drill {name} is" in line["text"]:
            return float(line["at"])
    return None


def _meanwhile(node: Node, outcome: Outcome) -> str:
    """The receiver's other target gets a crossing, and all is read on; the crossing's name."""
    at = node.now()
    name = node.drill()
    came = node.wait("the mail of another crossing", lambda: mailed(node, name, at))
    outcome.go_on(f"the mail of another crossing comes after {came - at:.1f} s")
    # Not longer: a node that has just begun had read nothing yet.
    up = f'min_over_time(gpumon_source_up{{source=~"vllm|nvml"}}[{max(2, round(node.now() - at))}s])'
    outcome.expect(all(value == 1 for _, value in node.query(up)), "a source was down meanwhile")
    return name


def _failing(nodes: NodeFactory, words: str, **command: Any) -> Outcome:
    """Break the webhook so, and look that the reason has these words, that the mails go on, and that all comes when it
    is well: of what began and ended meanwhile, the end."""
    outcome = Outcome()
    with nodes() as node, memory(node) as grown:
        node.receivers.send(**command)
        at = node.now()
        stays, passes = node.drill(), node.drill()
        why = wait_reason(node, words)
        outcome.see("reason", why, node.now() - at)
        node.wait("the series", lambda: node.value("max(gpumon_notifications_failing_seconds)") or 0)
        outcome.see("series", "`gpumon_notifications_failing_seconds`", node.now() - at)
        later = _meanwhile(node, outcome)
        node.drill(passes, 0.0)
        node.wait("the end of one", lambda: not node.query(f'ALERTS{{alertname="Drill",engine="{passes}"}}'))
        _heal(node, outcome, stays, later)
        outcome.expect(grown() < _MOST_MORE, f"the daemon grew by {grown() >> 20} MiB")
        if passed := node.told("Drill", "firing", engine=passes):
            node.wait_told("Drill", "resolved", since=passed, engine=passes)
        if repeated := copies(node, stays, passes, later):
            outcome.go_on(repeated)
            outcome.expect("differ" not in repeated, repeated)
        _end(node, stays, later)
        outcome.close(node, mail=True)
    return outcome


def _asked(node: Node, since: float) -> bool:
    """Whether a request came to the webhook."""
    return any(line["at"] >= since for line in node.receivers.lines("webhook"))


def _heal(node: Node, outcome: Outcome, *firing: str) -> None:
    at = node.now()
    node.receivers.send(webhook="ok")
    for name in firing:
        node.wait_told("Drill", "firing", since=at, seconds=120, engine=name)
    node.wait("nothing is owed", lambda: node.owed() == 0)
    node.wait("no failure is shown", lambda: node.value("max(gpumon_notifications_failing_seconds)") == 0)
    outcome.recovered = node.now() - at


def _end(node: Node, *names: str) -> None:
    at = node.now()
    for name in names:
        node.drill(name, 0.0)
    for name in names:
        node.wait_told("Drill", "resolved", since=at, engine=name)


@fault("webhook down", group="receivers", what="a webhook's port is closed")
def down(nodes: NodeFactory) -> Outcome:
    return _failing(nodes, "connection refused", webhook="down")


@fault("webhook hung", group="receivers", what="a webhook takes requests and answers none")
def hung(nodes: NodeFactory) -> Outcome:
    return _failing(nodes, "no answer in 20 s", webhook="hang")


@fault("webhook 500", group="receivers", what="a webhook answers 500")
def http_500(nodes: NodeFactory) -> Outcome:
    return _failing(nodes, "answers 500", webhook="refuse", status="500 Internal Server Error")


@fault(
    "webhook odd",
    group="receivers",
    what="a webhook closes without a word; answers 503 and hangs after the headers; answers 500 with a text that never "
    "ends; 502 with a compressed text of 0.25 GiB",
)
def odd(nodes: NodeFactory) -> Outcome:
    """Each is a failure, and soon known; what it says is bounded."""
    outcome = Outcome()
    with nodes() as node, memory(node) as grown:
        names: list[str] = []
        for words, command in (
            ("the connection broke", {"webhook": "drop"}),
            ("answers 503", {"webhook": "refuse_late_body", "status": "503 Service Unavailable"}),
            ("answers 500: no no", {"webhook": "endless"}),
            ("answers 502", {"webhook": "bomb"}),
        ):
            node.receivers.send(**command)
            at = node.now()
            names.append(node.drill())  # another each time: what waits is tried ever more seldom
            node.wait("it was tried", partial(_asked, node, at))
            why = wait_reason(node, words)
            outcome.see("reason", why if len(why) < 60 else f"{why[:40]}…", node.now() - at)
        names.append(_meanwhile(node, outcome))
        _heal(node, outcome, *names)
        outcome.expect(grown() < _MOST_MORE, f"the daemon grew by {grown() >> 20} MiB")
        _end(node, *names)
        outcome.close(node, mail=True)
    return outcome


@fault("webhook 429", group="receivers", what=f"a webhook answers 429 with `Retry-After: {_ASKED_PAUSE}`")
def http_429(nodes: NodeFactory) -> Outcome:
    """It is left alone for as long as it asks."""
    outcome = Outcome()
    with nodes() as node:
        retry = f"Retry-After: {_ASKED_PAUSE}\r\n"
        node.receivers.send(webhook="refuse", status="429 Too Many Requests", headers=retry)
        at = node.now()
        stays = node.drill()
        outcome.see("reason", wait_reason(node, "answers 429"), node.now() - at)
        asked = node.receivers.lines("webhook")[-1]["at"]
        later = _meanwhile(node, outcome)
        node.receivers.send(webhook="ok")
        healed = node.now()
        for name in (stays, later):
            node.wait_told("Drill", "firing", since=at, seconds=120, engine=name)
        outcome.recovered = node.now() - healed
        again = min(line["at"] for line in node.receivers.lines("webhook") if line["at"] > asked)
        outcome.go_on(f"it is asked again {again - asked:.1f} s after it refused")
        # It said so a moment before we saw it, and clocks are read between.
        outcome.expect(again - asked > _ASKED_PAUSE - 0.5, "it was asked before the time that it asked for")
        _end(node, stays, later)
        outcome.close(node, mail=True)
    return outcome


@fault("webhook slow", group="receivers", what="a webhook takes 8 s for each answer")
def slow(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        node.receivers.send(webhook="slow", seconds=8)
        at = node.now()
        stays = node.drill()
        outcome.see("webhook", "a crossing", node.wait_told("Drill", since=at, engine=stays) - at)
        later = _meanwhile(node, outcome)
        node.wait_told("Drill", since=at, engine=later)
        time.sleep(10)
        outcome.expect(why_failing(node) == "", f"a slow success was taken for a failure: {why_failing(node)}")
        healed = node.now()
        node.receivers.send(webhook="ok")
        _end(node, stays, later)
        outcome.recovered = node.now() - healed
        if repeated := copies(node, stays, later):
            outcome.problems.append(repeated)
        outcome.close(node, mail=True)
    return outcome


@fault("webhook hangs after headers", group="receivers", what="a webhook answers 200 and hangs after the headers")
def late_body(nodes: NodeFactory) -> Outcome:
    """It has taken the message: it is not sent again."""
    outcome = Outcome()
    with nodes() as node:
        node.receivers.send(webhook="late_body")
        at = node.now()
        stays = node.drill()
        outcome.see("webhook", "a crossing", node.wait_told("Drill", since=at, engine=stays) - at)
        later = _meanwhile(node, outcome)
        node.wait_told("Drill", since=at, engine=later)
        node.wait("nothing is owed", lambda: node.owed() == 0)
        outcome.expect(why_failing(node) == "", f"it was taken for a failure: {why_failing(node)}")
        node.receivers.send(webhook="ok")
        if repeated := copies(node, stays, later):
            outcome.problems.append(repeated)
        _end(node, stays, later)
        outcome.close(node, mail=True)
    return outcome


@fault("webhook 404", group="receivers", what="a webhook answers 404: it was removed, and is made anew")
def http_404(nodes: NodeFactory) -> Outcome:
    return _failing(nodes, "answers 404", webhook="refuse", status="404 Not Found")


def _mail_failing(nodes: NodeFactory, words: str, mode: str) -> Outcome:
    """Break the mail server so: webhooks go on, and the mail comes when it is well."""
    outcome = Outcome()
    with nodes() as node:
        node.receivers.send(mail=mode)
        at = node.now()
        stays = node.drill()
        outcome.see("reason", wait_reason(node, words), node.now() - at)
        since = node.now()
        later = node.drill()
        told = node.wait_told("Drill", since=since, engine=later)
        outcome.go_on(f"the webhook gets another crossing after {told - since:.1f} s")
        healed = node.now()
        node.receivers.send(mail="ok")
        for name in (stays, later):
            node.wait("the mail of it", partial(mailed, node, name, healed), 120)
        node.wait("nothing is owed", lambda: node.owed() == 0)
        outcome.recovered = node.now() - healed
        if repeated := copies(node, stays, later):
            outcome.problems.append(f"the webhook: {repeated}")
        _end(node, stays, later)
        outcome.close(node, mail=True)
    return outcome


@fault("mail down", group="receivers", what="the mail server's port is closed")
def mail_down(nodes: NodeFactory) -> Outcome:
    return _mail_failing(nodes, "refused", "down")


@fault("mail hung", group="receivers", what="the mail server takes connections and says nothing")
def mail_hung(nodes: NodeFactory) -> Outcome:
    return _mail_failing(nodes, "timed out", "silent")


@fault("mail 450", group="receivers", what="the mail server answers 450")
def mail_450(nodes: NodeFactory) -> Outcome:
    return _mail_failing(nodes, "450", "450")


def _webhook_tls(node: Node, ca: Path) -> None:
    """The webhook over TLS, verified by this authority."""
    (receiver,) = node.config()["receivers"]
    url = receiver["webhook"].replace("http:", "https:")
    node.write_config(receivers=[{**receiver, "webhook": {"url": url, "ca_file": str(ca)}}])


@fault("webhook TLS", group="receivers", what="a webhook's certificate has ended; then another authority's")
def tls(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes(start=False) as node:
        ours, other = Authority(node.folder / "ours"), Authority(node.folder / "others", "other")
        good, ended, foreign = ours.sign("good"), ours.sign("ended", days=-1), other.sign("foreign")
        node.receivers.send(webhook="ok", cert=str(good[0]), key=str(good[1]))
        _webhook_tls(node, ours.ca)
        node.start()
        for pair, words in ((ended, "certificate has expired"), (foreign, "unable to get local issuer")):
            at = node.now()
            node.receivers.send(webhook="ok", cert=str(pair[0]), key=str(pair[1]))
            name = node.drill()
            outcome.see("reason", wait_reason(node, words), node.now() - at)
            outcome.expect(node.told("Drill", engine=name) is None, "it was sent to whom nobody knows")
        later = _meanwhile(node, outcome)
        # The authority itself is replaced, as when it is renewed: the file has another one now.
        at = node.now()
        ours.ca.write_bytes(other.ca.read_bytes())
        node.wait_told("Drill", since=at, seconds=120, engine=later)
        node.wait("nothing is owed", lambda: node.owed() == 0)
        outcome.recovered = node.now() - at
        outcome.close(node, mail=True)
    return outcome


@fault("Alertmanager down", group="receivers", what="the Alertmanager that alerts are sent on to is down")
def alertmanager_down(nodes: NodeFactory) -> Outcome:
    """It gets what fires each minute again: what is missed is made good by that."""
    outcome = Outcome()
    with nodes(start=False) as node:
        node.write_config(alerting={"alertmanagers": [{"url": node.url("alertmanager").rstrip("/")}]})
        node.start()

        def sent(name: str, since: float) -> list[float]:
            lines = [line for line in node.receivers.lines("alertmanager") if line["taken"] and line["at"] >= since]
            return [line["at"] for line in lines if any(each["labels"].get("engine") == name for each in line["body"])]

        node.wait("it gets alerts", lambda: node.receivers.lines("alertmanager"))
        node.receivers.send(alertmanager="down")
        at = node.now()
        name = node.drill()
        failed = "increase(gpumon_alertmanager_errors_total[1m]) > 0"
        node.wait("it is seen", lambda: node.query(failed))
        outcome.see("series", "`gpumon_alertmanager_errors_total`", node.now() - at)
        node.wait("the log", lambda: "connection refused; it gets what fires" in node.log())
        outcome.see("log", "connection refused", node.now() - at)
        told = node.wait_told("Drill", since=at, engine=name)
        outcome.go_on(f"the webhook gets another crossing after {told - at:.1f} s")
        healed = node.now()
        node.receivers.send(alertmanager="ok")
        node.wait("it gets what fires", lambda: sent(name, healed), 150)
        outcome.recovered = sent(name, healed)[0] - healed
        _end(node, name)
        outcome.close(node)
    return outcome
