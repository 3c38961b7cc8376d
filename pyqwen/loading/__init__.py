"""From a file and options to a model in memory: reading, planning, packing, inspecting."""
