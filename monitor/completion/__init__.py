"""Completion for bash, zsh and fish. It is asked at each TAB, so it knows the commands from a table and imports little:
neither click nor what the commands do."""
