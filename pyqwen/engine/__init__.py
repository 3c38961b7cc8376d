"""Requests and what runs them: the scheduler, the prefix cache, the streams that wait."""
