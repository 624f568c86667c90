"""The Django app: profile pictures, an image field with variants, template tags. The engine is elsewhere."""
