"""The other side of the API, for screens and commands. No textual in it."""
