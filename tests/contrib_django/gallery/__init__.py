"""An app with pictures, for the tests."""
