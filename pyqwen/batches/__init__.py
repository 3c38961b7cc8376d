"""Files of requests, answered row by row: OpenAI's batches, on one engine, several, or a Ray cluster.

``pyqwen.batch`` (``public.py``) reads a file of rows (``rows.py``), puts those that begin alike after each
other (``prefixes.py``), and has a driver (``driver.py``) give them to workers: an engine in this process
(``engine.py``), processes (``processes.py``), or the actors of a cluster (``ray_cluster.py``). Handlers of
``pyqwen.serve`` answer (``answering.py``), and the answers are appended to a file that a second start goes on
with (``output.py``). Needs the extra ``batch`` (``pip install "pyqwen[batch]"``), which is msgspec alone.
"""
