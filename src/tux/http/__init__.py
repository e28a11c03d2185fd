"""HTTP semantics without input or output: pure functions over text and bytes."""
