"""Claims that wait for work, and completions on their way to the queue."""
