"""The engine on libvips. This imports nothing: `plan` and `geometry` are used where pyvips must not be."""
