"""The fields of ``gpumon.yaml`` that say who is told: ``alerting`` and ``receivers``. ``config_fields`` says how one
is added."""

from __future__ import annotations

from monitor.field_kinds import (
    Choice,
    Duration,
    Either,
    Field,
    Inside,
    ListOf,
    MapOf,
    OneOrMore,
    SecretText,
    Section,
    Text,
    Truth,
    Whole,
)
from monitor.shared_fields import BEARER_TOKEN, CA_FILE, PATH, SECRET_PARTS, SKIP_VERIFY, WEB_SECRET

_WEB_URL = Text(
    pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+(/[^?#]*)?$",
    told="an http or https URL without a password, a ? or a #",
    bare=False,
)
ALERTING = Section(
    "alerting",
    "Rules, and where else alerts go.",
    (
        Field(
            "rule_files",
            ListOf(PATH, least=1),
            "Prometheus rule files, in place of the shipped one",
            without="the shipped [alerts.yaml](../alerts.yaml)",
            examples=(["/etc/gpumon/alerts.yaml"],),
        ),
        Field(
            "evaluation_interval",
            Duration(1_000, 3_600_000),
            "how often a group of rules that does not say it is evaluated",
            default="5s",
            examples=("15s",),
        ),
        Field(
            "evaluator",
            Choice(
                {
                    "local": "gpumon evaluates, records and tells people.",
                    "remote": "A Prometheus that scrapes this node, and has the same rules, tells people.",
                }
            ),
            "`remote`: a Prometheus that scrapes this node, and has the same rules, tells people. gpumon evaluates and "
            "records as ever, and tells people itself only where nobody has scraped it for five minutes",
            default="local",
            examples=("remote",),
        ),
        Field(
            "external_url",
            _WEB_URL,
            "where people see this node's alerts: for links in messages",
            without="none",
            examples=("https://gpumon.example.com",),
        ),
        Field(
            "external_labels",
            MapOf(
                Text(),
                r"^([A-Za-z]|_(?!_))[A-Za-z0-9_]*$",
                "a label's name: letters, digits and _, and not __ at its beginning",
            ),
            "labels that alerts get on their way to an Alertmanager",
            without="none",
            examples=({"site": "berlin"},),
        ),
        Field(
            "alertmanagers",
            OneOrMore(Either((_WEB_URL, Inside("alertmanagers")))),
            "Alertmanagers that alerts are sent on to, as Prometheus does, each with its URL or as a mapping",
            without="none",
            examples=(["http://alertmanager:9093"],),
        ),
    ),
)

ALERTMANAGER = Section(
    "alertmanagers",
    "An Alertmanager that alerts are sent on to.",
    (
        Field(
            "url",
            _WEB_URL,
            "its URL, such as `http://alertmanager:9093`, with its path where it has one",
            required=True,
            examples=("http://alertmanager:9093",),
        ),
        BEARER_TOKEN,
        CA_FILE,
        SKIP_VERIFY,
    ),
)

RECEIVER = Section(
    "receivers",
    "Somebody who is told: by URLs of apprise, by webhooks, or by both.",
    (
        Field(
            "name",
            Text(
                pattern=r"^[A-Za-z0-9_.-]{1,64}$",
                told="letters, digits, ., _ and -, at most 64 of them",
            ),
            "letters, digits, `.`, `_` and `-`, at most 64 of them",
            required=True,
            examples=("chat",),
        ),
        Field(
            "apprise",
            OneOrMore(
                SecretText("://", "an apprise URL, such as slack://…, mailtos://… or json://…", bare=False), least=1
            ),
            "[apprise](https://github.com/caronc/apprise) URLs: `slack://…`, `mailtos://…`, `pagerduty://…`",
            without="none",
            examples=({"file": "/etc/gpumon/slack-url"},),
        ),
        Field(
            "webhook",
            OneOrMore(Either((WEB_SECRET, Inside("webhook"))), least=1),
            "URLs that get Alertmanager's webhook payload, each a secret or a mapping",
            without="none",
            examples=("https://example.com/hook",),
        ),
        Field("send_resolved", Truth(), "whether it is told that an alert ended", default=True),
        Field(
            "pages",
            Truth(),
            "whether it wakes somebody, as PagerDuty, Opsgenie and SMS do: then it is told of no warning that its "
            "route does not ask for",
            without="by its URLs",
        ),
        Field("rate_limit", Whole(1, 6000), "messages a minute at most", default=20, examples=(60,)),
    ),
    any_of=("apprise", "webhook"),
)

WEBHOOK = Section(
    "webhook",
    "A URL that gets Alertmanager's webhook payload by POST.",
    (
        Field("url", WEB_SECRET, "an http or https URL", required=True, examples=("https://example.com/hook",)),
        Field(
            "headers",
            MapOf(
                SecretText(r"^[^\x00-\x1f\x7f]*$", "one line without control characters"),
                r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
                "the name of an HTTP header",
            ),
            "HTTP headers of each request",
            without="none",
            examples=({"X-Team": "infra"},),
            type_said="mapping of secrets",
        ),
        BEARER_TOKEN,
        Field(
            "max_alerts",
            Whole(0, 1_000_000, "whole number"),
            "alerts in one payload at most; 0 for all",
            default=0,
            examples=(50,),
        ),
        CA_FILE,
        SKIP_VERIFY,
    ),
)

SECTIONS = (ALERTING, ALERTMANAGER, RECEIVER, WEBHOOK, SECRET_PARTS)
