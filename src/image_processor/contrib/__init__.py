"""Parts for frameworks that are not ours: each is an extra, and nothing else imports them."""
