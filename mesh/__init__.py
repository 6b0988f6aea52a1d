"""The mesh: what joins services, and knows no business word.

Two sides that never meet in one process: Nameko extensions, which need eventlet's monkey
patching, and `mesh.aio`, which needs asyncio without it. What both share (`mesh.errors`,
`mesh.events`) is standard library alone.
"""
