"""The classic REST tutorial: Django orders call Flask users and FastAPI products, all in memory.

Where a tutorial leaves a choice, it is made in the baseline's favour: two calls an order instead of
three, no access log, more workers than cores.
"""
