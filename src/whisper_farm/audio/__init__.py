"""Sound in, chunks out: opening recordings, decoding them in one pass, finding pauses, cutting, FLAC.

The door is `chunking.chunks`. Nothing here knows jobs or HTTP: a recording is a path or any seekable
file object. FFmpeg's libraries (through PyAV) do the decoding; importing this package loads none of them.
"""
