"""Random input for every parser, beside a second reader that knows the same format.

    make fuzz                           each target for 60 seconds, as many at a time as there are cores
    make fuzz SECONDS=600               for longer
    make fuzz TARGET=hello SEED=7       one target, the same inputs again
    make fuzz TARGET=hello FILE=F       one input: the file that a failure has left

`targets.py` says what is compared with what; `engine.py` makes inputs, keeps those that show something new, and makes a
failing one small. The suite runs a short slice of each target (tests/e2e/test_fuzzing.py).
"""
