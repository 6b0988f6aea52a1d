"""What the mesh is compared with, written by us in the spirit of what people start from."""
