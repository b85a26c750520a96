"""Whatever touches a disk: images, transforms, records, and how they are written."""
