"""Chat templates: an interpreter of Jinja templates that bounds what one may take."""
