"""Applications in processes of their own: how they are found, and how requests become WSGI and ASGI calls."""
