"""What the tests of all rooms stand on: databases, buckets, servers, workers, recordings and faults."""
