"""Give each part its quantization scheme: ranges, rules, audit, and the search for the smallest file."""
