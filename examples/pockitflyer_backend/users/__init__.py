"""People: their profiles, and the page on which they choose a picture."""
