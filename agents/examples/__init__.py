"""The environment under other people's tools; nothing here is imported by `agents.train`."""
