"""What `mcproxy check` looks at beyond the file itself: what a start would load, and what it would find in its way."""
