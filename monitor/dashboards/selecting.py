"""What the dashboards' queries have in common: matchers from the choices at the top, alerts, windows, links.

Series keep dcgm-exporter's, node_exporter's and vLLM's names, so that a Prometheus which scrapes those itself answers
what they have. Nothing here needs a recording rule; what is said of alerts needs `alerts.yaml`, or another's rules.
"""

from __future__ import annotations

from monitor.dashboards.build import Variable

RATE = "[$__rate_interval]"
SOME = "[5m]"
"""The window of what is counted at a moment: long enough for a percentile to mean something."""

MEMBERS = "gpumon_build_info|DCGM_FI_DEV_GPU_TEMP|vllm:num_requests_running"
NODES = 'job=~"$job",instance=~"$instance"'
"""Of the nodes that are chosen, one or many."""
ONE = 'job=~"$job",instance="$instance"'
"""Of the node that is chosen."""
SERVERS = f'{NODES},server=~"$server"'

JOB = Variable("job", "Job", f'{{__name__=~"{MEMBERS}"}}', all_value="")
INSTANCE = Variable("instance", "Node", f'{{__name__=~"up|{MEMBERS}",job=~"$job"}}')
"""A node that is down has ``up`` alone; a gpumon node that is asked itself has no ``up``."""
ONE_INSTANCE = Variable("instance", "Node", '{__name__=~"gpumon_build_info|DCGM_FI_DEV_GPU_TEMP",job=~"$job"}', False)

_KEPT = "${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
TO_NODE = f"/d/gpumon-node/gpumon-node?{_KEPT}&var-instance=${{__value.raw}}"
TO_SERVER = f"/d/gpumon-vllm/gpumon-vllm?{_KEPT}&var-instance=${{__data.fields.Node}}&var-server=${{__value.raw}}"

STATES = ((0, "well", "green"), (1, "warning", "orange"), (2, "critical", "red"), (3, "down", "dark-purple"))


def firing(matchers: str, severity: str = "") -> str:
    """The alerts that fire, of one severity or of all that are meant for somebody."""
    of = f'severity="{severity}"' if severity else 'severity!="none"'
    return f'ALERTS{{alertstate="firing",{of},{matchers}}}'


def counted(matchers: str, severity: str = "", by: str = "") -> str:
    """How many fire; 0 where none does and rules are evaluated, which Watchdog tells; nothing where none are."""
    ruled = 'on () group_left () max(ALERTS{alertname="Watchdog",alertstate="firing"})'
    if by:
        zero = f"0 * max by ({by}) ({reached(matchers)}) * {ruled}"
        return f"count by ({by}) ({firing(matchers, severity)}) or {zero}"
    return f'count({firing(matchers, severity)}) or 0 * max(ALERTS{{alertname="Watchdog",alertstate="firing"}})'


def since(matchers: str, by: str) -> str:
    """Since when each alert fires, in milliseconds, by some of its labels."""
    on = f'ALERTS{{alertstate="firing",severity!="none",{matchers}}}'
    return f"1000 * max by ({by}) (ALERTS_FOR_STATE{{{matchers}}} and ignoring (alertstate) {on})"


def reached(matchers: str) -> str:
    """1 for what was scraped, 0 for what could not be. A gpumon node that is asked itself answers: 1."""
    return f"(up{{{matchers}}} or on (instance) gpumon_build_info{{{matchers}}})"


def over(how: str, name: str, matchers: str, by: str = "") -> str:
    """Series put together, ``how`` such as ``sum``: over all that matches or by labels."""
    return f"{how} by ({by}) ({name}{{{matchers}}})" if by else f"{how}({name}{{{matchers}}})"


def quantile(q: float, histogram: str, matchers: str, by: str = "", window: str = RATE) -> str:
    """A quantile of a histogram, over all that matches or by labels."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q:g}, sum by ({labels}) (rate({histogram}_bucket{{{matchers}}}{window})))"


def mean(histogram: str, matchers: str, by: str = "", window: str = RATE) -> str:
    """The mean of what a histogram counted."""
    over = f" by ({by})" if by else ""
    return (
        f"sum{over} (rate({histogram}_sum{{{matchers}}}{window}))"
        f" / sum{over} (rate({histogram}_count{{{matchers}}}{window}))"
    )


def per_second(counter: str, matchers: str, by: str = "", window: str = RATE) -> str:
    """A counter's rate, added up."""
    over = f" by ({by})" if by else ""
    return f"sum{over} (rate({counter}{{{matchers}}}{window}))"


def failed(matchers: str, by: str, window: str = RATE) -> str:
    """Requests a second that a server answered with 5xx; 0 where it answered all others well."""
    api = f'{matchers},handler=~"/v1/.*"'
    asked = per_second("http_requests_total", api, by, window)
    wrong = per_second("http_requests_total", f'{api},status=~"5..|5xx"', by, window)
    return f"{wrong} or 0 * {asked}"
