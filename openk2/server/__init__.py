"""The HTTP room: API dialects in and out, and one generation as a stream of events."""
