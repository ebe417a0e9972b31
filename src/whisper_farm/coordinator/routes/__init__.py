"""The HTTP API, one file a subject. Routes check, translate and answer; what happens is decided in `leases/`."""
