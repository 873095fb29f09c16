"""The edges: one module for each outside system, the only importer of its client."""
