"""The fields of custom resources that the examples use, as the definitions of their operators have them: those of the
Prometheus Operator (0.82), of KEDA (2.17) and of cert-manager (1.17). A whole definition is up to a hundred thousand
characters long; here are the parts that the examples use, with nothing else allowed beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_DURATION: Schema = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}
_TEXTS: Schema = {"type": "object", "additionalProperties": _TEXT}


def _object(required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


_KEY_OF_SECRET = _object(("key",), key=_TEXT, name=_TEXT, optional={"type": "boolean"})
_RELABELING = _object(
    action={"enum": ["replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase"]},
    modulus=_WHOLE,
    regex=_TEXT,
    replacement=_TEXT,
    separator=_TEXT,
    sourceLabels=_list({"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}),
    targetLabel=_TEXT,
)
_RULE = _object(
    ("expr",),
    alert=_TEXT,
    annotations=_TEXTS,
    expr={"type": ["integer", "string"]},
    **{"for": _DURATION},
    keep_firing_for={**_DURATION, "minLength": 1},
    labels=_TEXTS,
    record=_TEXT,
)
_SCALING = _object(
    policies=_list(
        _object(
            ("type", "value", "periodSeconds"),
            type={"enum": ["Pods", "Percent"]},
            value={"type": "integer", "minimum": 1},
            periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
        ),
        minItems=1,
    ),
    selectPolicy=_TEXT,
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
)

SPECS: Mapping[str, Schema] = {
    "monitoring.coreos.com/v1 PodMonitor": _object(
        ("podMetricsEndpoints", "selector"),
        jobLabel=_TEXT,
        namespaceSelector=_object(any={"type": "boolean"}, matchNames=_list(_TEXT)),
        podMetricsEndpoints=_list(
            _object(
                authorization=_object(type=_TEXT, credentials=_KEY_OF_SECRET),
                interval=_DURATION,
                path=_TEXT,
                port=_TEXT,
                relabelings=_list(_RELABELING),
                scheme={"enum": ["http", "https"]},
                scrapeTimeout=_DURATION,
                tlsConfig=_object(ca=_object(secret=_KEY_OF_SECRET), serverName=_TEXT),
            )
        ),
        podTargetLabels=_list(_TEXT),
        selector=_object(matchLabels=_TEXTS, matchExpressions=_list({"type": "object"})),
    ),
    "monitoring.coreos.com/v1 PrometheusRule": _object(
        groups=_list(
            _object(
                ("name",),
                interval=_DURATION,
                labels=_TEXTS,
                limit=_WHOLE,
                name={"type": "string", "minLength": 1},
                query_offset=_DURATION,
                rules=_list(_RULE),
            )
        )
    ),
    "cert-manager.io/v1 Certificate": _object(
        ("secretName", "issuerRef"),
        secretName=_TEXT,
        dnsNames=_list(_TEXT),
        duration=_TEXT,
        issuerRef=_object(("name",), name=_TEXT, kind=_TEXT, group=_TEXT),
        privateKey=_object(
            algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
            size=_WHOLE,
            rotationPolicy={"enum": ["Never", "Always"]},
        ),
    ),
    "keda.sh/v1alpha1 ScaledObject": _object(
        ("scaleTargetRef", "triggers"),
        advanced=_object(
            horizontalPodAutoscalerConfig=_object(behavior=_object(scaleDown=_SCALING, scaleUp=_SCALING), name=_TEXT)
        ),
        cooldownPeriod=_WHOLE,
        fallback={"type": "object"},
        maxReplicaCount=_WHOLE,
        minReplicaCount=_WHOLE,
        pollingInterval=_WHOLE,
        scaleTargetRef=_object(("name",), name=_TEXT, kind=_TEXT, apiVersion=_TEXT),
        triggers=_list(
            _object(
                ("type", "metadata"),
                authenticationRef={"type": "object"},
                metadata=_TEXTS,  # a number or a truth value without quotes is refused
                metricType={"enum": ["AverageValue", "Value", "Utilization"]},
                name=_TEXT,
                type=_TEXT,
            )
        ),
    ),
}

# What KEDA's scaler for Prometheus reads.
PROMETHEUS_TRIGGER = _object(
    ("serverAddress", "query", "threshold"),
    serverAddress=_TEXT,
    query=_TEXT,
    threshold=_TEXT,
    activationThreshold=_TEXT,
    ignoreNullValues={"enum": ["true", "false"]},
    namespace=_TEXT,
    customHeaders=_TEXT,
    queryParameters=_TEXT,
    unsafeSsl=_TEXT,
    timeout=_TEXT,
    authModes=_TEXT,
)

# The Prometheus adapter's configuration.
ADAPTER = _object(
    **{
        name: _list(
            _object(
                ("seriesQuery", "metricsQuery"),
                seriesQuery=_TEXT,
                seriesFilters=_list({"type": "object"}),
                resources=_object(namespaced={"type": "boolean"}, template=_TEXT, overrides={"type": "object"}),
                name=_object(matches=_TEXT, **{"as": _TEXT}),
                metricsQuery=_TEXT,
            )
        )
        for name in ("rules", "externalRules")
    }
)


def check(resource: Mapping[str, Any]) -> None:
    """Raises ``jsonschema.ValidationError`` where a custom resource is none, ``KeyError`` for one that is not known."""
    schema = SPECS[f"{resource['apiVersion']} {resource['kind']}"]
    whole = _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=_TEXT,
        kind=_TEXT,
        metadata=_object(("name",), name=_TEXT, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS),
        spec=schema,
    )
    jsonschema.validate(resource, whole)
