"""The places that a job's URIs name: web, folders of this machine, buckets. What is done there is others'."""

from image_processor.locations.places import Locations

__all__ = ["Locations"]
