"""The command line: one file per command, each light to import; a command loads what is heavy when it runs."""
