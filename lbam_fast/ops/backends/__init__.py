"""The fused ops, once for every way to run them: modules whose functions have the names and arguments of ``eager``."""
