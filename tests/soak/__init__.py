"""Mixed traffic for a long time, with faults: nothing fails that a fault doesn't explain, and nothing grows.

    make soak                an hour
    make soak-quick          ten minutes
    python -m tests.soak --minutes 3

Two proxies run in front of the same backends. One stays up, and its memory, descriptors, threads and greenlets
are measured; the other is drained and started again and again. Clients of l4, HTTP/1.1 and HTTP/2 check every byte of
what comes back. Meanwhile routes and rules are added and removed, the file is read again, a backend goes and comes
back, and clients break off. `faults.py` notes when which fault was there: a request may fail only meanwhile. What was
measured is in build/soak/soak.csv, as a picture in build/soak/soak.svg.
"""
