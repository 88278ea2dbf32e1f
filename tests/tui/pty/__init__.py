"""The real thing in a pseudo-terminal: every screen and every key, and how it begins and ends."""
