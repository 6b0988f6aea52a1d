"""The mesh: what joins services, and knows no business word.

Two sides that never meet in one process: Nameko extensions, which need eventlet's monkey
patching, and `nameko_mesh.aio`, which needs asyncio without it. What both share (`nameko_mesh.errors`,
`nameko_mesh.events.schema`) is standard library alone.
"""
