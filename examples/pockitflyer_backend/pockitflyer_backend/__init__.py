"""The project: settings, addresses, the entry for servers."""
