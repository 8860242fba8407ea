"""What the host's programs print, read into values: pure functions of texts."""
