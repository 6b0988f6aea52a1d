"""Fault injection: no order may be lost or doubled, whatever fails.

    mesh        the mesh under test, started by `mycelium run` on private servers
    faults      kills, freezes and alarms from outside; each is counted
    failpoints  faults at an exact line of a service; `sabotage` wraps the services from outside
    mutants     small sabotages of the code, as negative controls
    customers   clients that order during the faults; `history` keeps every request and response
    books       the state of the databases afterwards; `checker` compares it with the history
    rows        R1 to R15: a load, a fault and the conditions to pass

`python -m tests.chaos` runs all rows in full. `test_rows` runs their short forms, as part of `make test`.
"""
