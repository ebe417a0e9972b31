"""What recognition produces: words, segments and transcripts, how chunks become one, and how it is written.

Knows nothing of audio, jobs or HTTP. Every time is in seconds from the start of the recording.
"""
