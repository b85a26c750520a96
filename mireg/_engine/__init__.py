"""The method: prepared images in, poses out. Knows no files and no people."""
