"""How a stranger's bytes come in: what they are, what they say of themselves, where they wait. No decode."""
