"""The worker: claims jobs from a farm, recognises or cuts in child processes, hands results back, beats, drains.

Knows the wire, the engines and the cutter; knows no storage. The agent process itself only claims, transfers and
beats: whatever may crash, hang, fill the memory or hold the interpreter happens in children it supervises.
"""
