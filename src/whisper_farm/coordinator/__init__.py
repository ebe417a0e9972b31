"""The coordinator: the HTTP API of the farm and its background services.

It keeps no state of its own: everything is in the database and the blob store, so any number of coordinators
may serve one farm. It decodes no audio and recognises nothing.
"""
