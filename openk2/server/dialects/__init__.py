"""What clients speak: each dialect's bodies in and answers out, in files of its own."""
