"""Alerting and recording rules: files, templates, and an engine into which time is passed."""
