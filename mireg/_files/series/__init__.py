"""Series of volumes: read one after the other; tables of what they hold."""
