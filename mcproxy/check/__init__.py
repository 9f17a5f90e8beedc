"""The checks of `mcproxy check` beyond the file itself: the values that a start would load, and its obstacles."""
