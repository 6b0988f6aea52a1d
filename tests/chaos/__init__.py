"""Nothing lost, nothing doubled, whatever dies: the promise of the README, tried by breaking things.

    mesh        the real thing, as `mycelium run` starts it, on servers of its own
    faults      what is done to it: kills, freezes, alarms; each is counted
    failpoints  the same at an exact line: `sabotage` puts them into the services, from outside
    mutants     one-line sabotages of the code: a row that does not notice its own is worthless
    customers   who order meanwhile; `history` keeps every request and answer
    books       what the databases say afterwards; `checker` compares the two
    rows        R1 to R15: a load, a fault, and when it passes

`python -m tests.chaos` runs it all; `test_rows` runs each row shortened, as part of `make test`.
"""
