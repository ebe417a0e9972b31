"""What answers look like: error bodies, files with ranges, their descriptions in OpenAPI."""
