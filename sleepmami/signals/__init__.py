"""EDF -> arrays: reading, channel matching, filtering, quality, annotations."""
