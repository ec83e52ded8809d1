"""What vendors' APIs look like on the wire, and nothing of what is done with it."""
