"""The usual REST tutorial: Django orders call Flask users and FastAPI products, with all data in memory.

Choices favour the baseline: two calls per order instead of three, no access log, more workers than cores.
"""
