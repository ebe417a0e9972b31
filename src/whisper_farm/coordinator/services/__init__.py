"""What the coordinator does without being asked, all in one form (see `service.py`).

Every service may run on any number of coordinators at once, and may die at any point: it repeats its conditions
where it writes, and what it left half done the next run finishes. None of them is a job in the queue.
"""
