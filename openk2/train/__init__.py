"""Training: optimizer, expert balance, schedules and the loop that uses them."""
