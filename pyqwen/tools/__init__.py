"""Tools that a model may call: how they are described to it, and the calls found in what it writes."""
