"""Widgets of our own: cheap to draw over SSH."""
