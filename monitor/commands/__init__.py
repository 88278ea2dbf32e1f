"""The commands, one module each. `monitor.cli` imports a module when its command runs."""
