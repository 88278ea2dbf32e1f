"""Grafana dashboards, made from Python: ``build`` has the pieces, the other modules a dashboard each."""

DEFAULT_PROMETHEUS = "http://localhost:9090"
DEFAULT_PATH = "/var/lib/grafana/dashboards/gpumon"
"""Where Grafana finds the dashboards."""
