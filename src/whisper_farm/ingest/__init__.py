"""What comes in from elsewhere: links, feeds and folders, each with its guards.

Knows HTTP as a client and the shapes of feeds. Knows no database and no queue: the services of the coordinator do.
"""
