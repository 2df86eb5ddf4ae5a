"""Pictures and captions: decoding, folders, imports, aspect buckets. No torch."""
