"""HTTP/2 by frames, whatever is on the other side: reading, judging and bounding it. No socket, no clock.

| file | what it knows |
| --- | --- |
| frames.py | cutting bytes into frames, collecting header blocks, passing runs of frames as one slice |
| header_link.py | one direction of header blocks: mirror table, cache, passing or encoding again |
| stream.py | one exchange; which identifiers were used, and how they were closed |
| answers.py | answers of our own |
| budgets.py | every bound with its reason |
"""
