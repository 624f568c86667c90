"""What a second implementation is tested with: shipped contracts, for our tests and other people's."""
