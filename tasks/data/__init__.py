"""From files and tables to shards of images."""
