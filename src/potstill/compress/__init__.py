"""Ways to make a model smaller: cut layers, export to one graph, quantise."""
