"""What the views call."""
