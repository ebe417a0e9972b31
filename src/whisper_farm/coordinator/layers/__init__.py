"""What every request passes through: authentication, limits, the log."""
