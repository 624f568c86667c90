"""The HTTP front: requests become typed values and go to the service; errors become one kind of body."""
